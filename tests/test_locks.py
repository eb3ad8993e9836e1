"""Locks that processes and users hold in turn, and that no link or pipe can stand in for."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import StoreBusy, StoreWriteFailed
from softlab.locks import exclusive, shared, waiting_for
from tests.forks import FORKS, run_in_fork


def count_up(lock: Path, counter: Path, times: int) -> None:
    """Read and write in two steps, which another process must not come between."""
    for _ in range(times):
        with waiting_for(lock):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: count_up(tmp_path / "lock", tmp_path / "counter", 20), range(8)))

    assert (tmp_path / "counter").read_text() == "160"


@pytest.mark.process
def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    arguments = (tmp_path / "lock", tmp_path / "counter", 50)

    processes = [FORKS.Process(target=count_up, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "150"


def test_a_lock_is_waited_for_until_it_is_let_go_also_by_an_error(tmp_path: Path) -> None:
    waits, is_held = threading.Event(), threading.Event()

    def hold() -> None:
        with waiting_for(tmp_path / "lock"):
            is_held.set()
            waits.wait()
            raise KeyError

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        is_held.wait()
        with pytest.raises(StoreBusy, match=r"Wait until it ends"), exclusive(tmp_path / "lock"):
            pass
        waits.set()
        with waiting_for(tmp_path / "lock"):
            pass

    assert isinstance(holder.exception(), KeyError)


def hold_as_another_user(folder: Path) -> None:
    """Exit code 0 where it can. Who may not list the folders above may be in one."""
    os.chdir(folder)
    os.setuid(65534)
    with waiting_for(Path("lock")), pytest.raises(StoreBusy), exclusive(Path("lock")):
        pass


@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_lock_that_one_user_made_is_held_by_another(tmp_path: Path, mode: int | None) -> None:
    tmp_path.chmod(0o755)
    with waiting_for(tmp_path / "lock"):
        pass
    if mode is not None:
        (tmp_path / "lock").chmod(mode)

    assert run_in_fork(hold_as_another_user, tmp_path) == 0


def test_a_lock_may_be_opened_by_all_whatever_files_are_made_with(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with waiting_for(tmp_path / "lock"):
            pass
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o666


def test_a_lock_in_a_folder_that_can_not_be_made_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with (
        pytest.raises(StoreWriteFailed, match=r"mend the cause, then run the same command again"),
        waiting_for(tmp_path / "file" / "lock"),
    ):
        pass


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(50):
        with waiting_for(tmp_path / "lock"):
            pass

    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("take", [exclusive, shared, waiting_for])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_what_is_no_plain_file_is_no_lock_and_stays_as_it_is(tmp_path: Path, take: Any, kind: str) -> None:
    other, lock = tmp_path / "other", tmp_path / "commits" / "lock"
    lock.parent.mkdir()
    other.write_text("private")
    other.chmod(0o600)
    match kind:
        case "link":
            lock.symlink_to(other)
        case "link to nothing":
            lock.symlink_to(tmp_path / "nothing")
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.mkdir()

    with pytest.raises(StoreWriteFailed, match=r"lock: is a link or no plain file; remove it, then run the same"):
        take(lock).__enter__()

    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert other.read_text() == "private"
    assert not (tmp_path / "nothing").exists()


def test_a_lock_that_was_there_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(mode=0o600)

    with waiting_for(tmp_path / "lock"):
        pass

    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
