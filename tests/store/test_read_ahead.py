import gc
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from softlab.errors import DamagedStore
from softlab.manifest import FileRecord
from softlab.remote.remote import Remote
from softlab.store import read_ahead
from softlab.store.files import write_files
from softlab.store.read_ahead import ReadAhead
from tests.forks import run_in_fork
from tests.store.building import flip_byte
from tests.store.remote import Counting

FILES = {f"labels/{number:02d}": bytes([number]) * 1000 for number in range(40)}
PAUSE_S = 0.01

kept: ReadAhead
"""In a process that ends while it still fetches."""


@pytest.fixture
def records(tmp_path: Path) -> list[FileRecord]:
    return list(write_files(tmp_path, FILES))


@pytest.fixture
def backend(tmp_path: Path) -> Counting:
    return Counting(tmp_path, pause_s=PAUSE_S)


@pytest.fixture
def ahead(backend: Counting) -> ReadAhead:
    return ReadAhead(Remote("counted://files", backend))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("softlab-read-ahead")]


def test_files_are_fetched_side_by_side_and_each_once(
    ahead: ReadAhead, backend: Counting, records: list[FileRecord]
) -> None:
    ahead.begin(records)
    ahead.begin(records[:10])

    taken = [ahead.take([record]) for record in records]

    assert taken == [{path: data} for path, data in FILES.items()]
    assert backend.reads == dict.fromkeys(FILES, 1)
    assert 4 < backend.most_at_once <= read_ahead.MAX_THREADS
    assert ahead.is_idle


def test_files_that_nobody_began_are_taken_side_by_side_too(
    ahead: ReadAhead, backend: Counting, records: list[FileRecord]
) -> None:
    assert ahead.take(records[:8]) == {path: FILES[path] for path in list(FILES)[:8]}

    assert backend.most_at_once > 1
    assert backend.reads.total() == 8


def test_no_more_bytes_are_held_than_may_be(
    ahead: ReadAhead, backend: Counting, records: list[FileRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", 5500)
    ahead.begin(records)
    backend.wait_for(record.path for record in records[:5])
    time.sleep(5 * PAUSE_S)
    assert backend.reads.keys() == {record.path for record in records[:5]}

    ahead.take(records[:1])

    backend.wait_for([records[5].path])
    time.sleep(5 * PAUSE_S)
    assert len(backend.reads) == 6


def test_a_file_larger_than_may_be_held_is_fetched_alone(
    ahead: ReadAhead, backend: Counting, records: list[FileRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", 10)

    ahead.begin(records[:3])
    taken = [ahead.take([record]) for record in records[:3]]

    assert [list(each) for each in taken] == [[record.path] for record in records[:3]]
    assert backend.most_at_once == 1


def test_what_is_needed_first_is_fetched_first(
    ahead: ReadAhead, backend: Counting, records: list[FileRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "MAX_THREADS", 1)
    ahead.begin(records[:10])

    ahead.begin(records[8:12], first=True)

    backend.wait_for([records[9].path])
    wait_until(lambda: len(backend.reads) >= 6)
    assert list(backend.reads)[1:6] == [record.path for record in (*records[8:12], records[1])]


def test_dropped_files_are_neither_fetched_nor_held(
    ahead: ReadAhead, backend: Counting, records: list[FileRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "MAX_THREADS", 1)
    ahead.begin(records[:10])

    ahead.drop(records)

    assert ahead.is_idle
    time.sleep(5 * PAUSE_S)
    assert len(backend.reads) == 1


def test_a_file_that_could_not_be_fetched_raises_only_when_it_is_taken_and_still_wrong(
    ahead: ReadAhead, backend: Counting, records: list[FileRecord], tmp_path: Path
) -> None:
    (tmp_path / records[0].path).unlink()
    flip_byte(tmp_path / records[1].path)
    ahead.begin(records)
    backend.wait_for(FILES)
    flip_byte(tmp_path / records[1].path)

    with pytest.raises(DamagedStore, match=re.escape("is missing. `softlab verify counted://files` lists all damage")):
        ahead.take(records[:1])
    assert ahead.take(records[1:2]) == {records[1].path: FILES[records[1].path]}


def test_the_threads_end_with_their_owner(tmp_path: Path, records: list[FileRecord]) -> None:
    backend = Counting(tmp_path, pause_s=20 * PAUSE_S)  # so that a busy machine gets to the end of its owner first
    ahead = ReadAhead(Remote("counted://files", backend))
    ahead.begin(records)
    assert threads()

    del ahead
    gc.collect()

    wait_until(lambda: not threads())
    assert backend.reads.total() < len(records), "what had not begun is not fetched any more"


def end_while_files_are_fetched(root: Path, errors: Path, records: list[FileRecord]) -> None:
    with errors.open("wb") as file:
        os.dup2(file.fileno(), 2)
    global kept
    kept = ReadAhead(Remote("counted://files", Counting(root, pause_s=PAUSE_S)))
    kept.begin(records)


@pytest.mark.process
def test_a_process_ends_without_a_word_while_files_are_fetched(tmp_path: Path, records: list[FileRecord]) -> None:
    exit_code = run_in_fork(end_while_files_are_fetched, tmp_path, tmp_path / "errors", records)

    assert (exit_code, (tmp_path / "errors").read_text()) == (0, "")


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # the very thing that is tested
def test_a_forked_process_begins_anew(ahead: ReadAhead, records: list[FileRecord]) -> None:
    ahead.begin(records)

    child = os.fork()
    if child == 0:
        is_right = ahead.take(records) == FILES
        os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert ahead.take(records) == FILES
