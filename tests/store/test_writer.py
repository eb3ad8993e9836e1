import errno
import itertools
import os
import random
import re
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from softlab.errors import DamagedStore, StoreBusy, StoreError, StoreExists, StoreMismatch, StoreWriteFailed
from softlab.identity import source_fingerprint
from softlab.manifest import StorePlan
from softlab.store.access import joining, writing
from softlab.store.folder import PLAN_NAME, count_finished_shards, find_finished, is_unfinished
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.forks import run_in_fork
from tests.store.building import (
    FORMATS,
    changed_plans,
    contents,
    flip_byte,
    make_arrays,
    make_plan,
    make_samples,
    write_shard,
    write_some,
    write_store,
)

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
SHARD_FILE = {"zarr": "outputs/logits/logits/c/1/0/0", "parquet": "outputs/logits/view=00001/part-00000.parquet"}
"""A file of the fourth shard."""

Finished = Callable[[StorePlan], dict[str, bytes]]


class Crash(BaseException):
    """Not an error that anything could catch: the process is as good as killed."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Gives every byte of a store that was written without any interruption."""
    stores: dict[bytes, dict[str, bytes]] = {}

    def write_once(plan: StorePlan) -> dict[str, bytes]:
        key = msgspec.json.encode(plan)
        if key not in stores:
            root = tmp_path_factory.mktemp("finished") / "store"
            write_store(root, plan)
            stores[key] = contents(root)
        return stores[key]

    return write_once


def try_to_write(root: Path) -> str:
    try:
        with writing(root, make_plan()):
            return "writing"
    except StoreBusy as error:
        return str(error)


def write_until_killed(root: Path, plan: StorePlan) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", from_call(56, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        write_store(root, plan)


def from_call(number: int, act: Callable[[], None]) -> Callable[[int], None]:
    """An `os.fsync` that does something else from one call on, as that of a disk which is full from then on."""
    calls, real = itertools.count(1), os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) >= number:
            act()
        real(descriptor)

    return fsync


def raise_(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


# What a store holds when it is finished.


@BOTH_FORMATS
def test_a_finished_store_is_intact_and_holds_nothing_else(tmp_path: Path, format: FormatName) -> None:
    plan = make_plan(format=format)

    manifest = write_store(tmp_path, plan)

    assert verify_store(tmp_path).is_intact
    assert contents(tmp_path).keys() == {file.path for file in manifest.files} | {"manifest.json", "README.md"}
    assert not (tmp_path / "commits").exists()


def test_the_manifest_adds_up_what_is_known_at_the_end(tmp_path: Path) -> None:
    plan = make_plan()
    samples = make_samples(plan)

    manifest = write_store(tmp_path, plan)

    assert manifest == open_store(tmp_path).manifest
    assert {name: getattr(manifest, name) for name in StorePlan.__struct_fields__} == msgspec.structs.asdict(plan)
    assert manifest.source_fingerprint == source_fingerprint(samples.keys, samples.content_hashes)
    assert (manifest.statistics["logits"].rows, manifest.statistics["logits"].correct) == (22, 16)
    assert manifest.statistics["logits"].mean_captured_mass == pytest.approx(((22 * 0.9 + 0.6) / 22, 0.7))


@BOTH_FORMATS
def test_a_store_has_the_same_bytes_whatever_the_order_of_its_shards(
    tmp_path: Path, finished: Finished, format: FormatName
) -> None:
    plan = make_plan(format=format)
    arrays = make_arrays(plan)
    order = random.Random(0)

    for number in range(3):
        root = tmp_path / str(number)
        with writing(root, plan) as writer:
            for shard in order.sample(writer.pending, k=len(writer.pending)):
                write_shard(writer, shard, arrays)
            assert [record.shard.start for record in writer.finished] == [0, 4, 8, 0, 4, 8]
            writer.finalize(make_samples(plan))
        assert contents(root) == finished(plan)


@BOTH_FORMATS
def test_shards_may_be_written_by_several_threads(tmp_path: Path, finished: Finished, format: FormatName) -> None:
    plan = make_plan(format=format)
    arrays = make_arrays(plan)

    with writing(tmp_path, plan) as writer, ThreadPoolExecutor(4) as threads:
        sizes = list(threads.map(lambda shard: write_shard(writer, shard, arrays), writer.pending))
        writer.finalize(make_samples(plan))

    assert contents(tmp_path) == finished(plan)
    assert sizes == [sum(file.bytes for file in shard.files) for shard in open_store(tmp_path).manifest.shards]


# Going on after an interruption.


@BOTH_FORMATS
def test_a_resumed_dump_writes_only_what_is_missing(tmp_path: Path, finished: Finished, format: FormatName) -> None:
    plan = make_plan(format=format)
    write_some(tmp_path, plan, num_shards=2)
    first = {name: (tmp_path / name).stat().st_ino for name in contents(tmp_path) if not name.startswith("commits/")}

    with writing(tmp_path, plan) as writer:
        assert [shard.name for shard in writer.pending] == [shard.name for shard in plan.grid][2:]
        assert len(writer.finished) == 2
    write_store(tmp_path, plan)

    assert contents(tmp_path) == finished(plan)
    assert {name: (tmp_path / name).stat().st_ino for name in first} == first


def test_a_dump_that_never_wrote_a_shard_is_gone_on_with(tmp_path: Path, finished: Finished) -> None:
    write_some(tmp_path, make_plan(), num_shards=0)

    write_store(tmp_path, make_plan())

    assert contents(tmp_path) == finished(make_plan())


def test_a_dump_that_stopped_before_its_plan_was_written_is_begun_again(tmp_path: Path, finished: Finished) -> None:
    (tmp_path / "commits").mkdir()
    (tmp_path / "commits/lock").touch()
    (tmp_path / "commits/plan.json.0123456789ab.tmp").write_bytes(b"{")

    write_store(tmp_path, make_plan())

    assert contents(tmp_path) == finished(make_plan())


def test_content_hashes_of_finished_shards_are_given_back(tmp_path: Path) -> None:
    plan = make_plan()
    write_some(tmp_path, plan, num_shards=3)

    with writing(tmp_path, plan) as writer:
        found = [content for record in writer.finished for content in writer.content_hashes(record)]

    assert found == list(make_samples(plan).content_hashes)


def test_what_no_record_names_is_swept(tmp_path: Path, finished: Finished) -> None:
    plan = make_plan()
    write_some(tmp_path, plan, num_shards=2)
    kept = contents(tmp_path)
    left = [
        "outputs/logits/logits/c/0/2/0",  # of a shard in flight
        "outputs/logits/logits/c/0/1/0.0123456789ab.tmp",
        "commits/view-00000-part-00002.hashes",
        "commits/view-00000-part-00002.json.0123456789ab.tmp",
        "samples.parquet",  # of an interrupted `finalize`
        "README.md",
        "manifest.json.0123456789ab.tmp",
    ]
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"half of it")

    with writing(tmp_path, plan):
        pass

    assert contents(tmp_path) == kept
    write_store(tmp_path, plan)
    assert contents(tmp_path) == finished(plan)


@BOTH_FORMATS
@pytest.mark.parametrize("inflict", [Path.unlink, lambda path: path.write_bytes(b"cut")])
def test_a_shard_with_a_file_of_another_size_counts_as_missing(
    tmp_path: Path, finished: Finished, format: FormatName, inflict: Callable[[Path], object]
) -> None:
    plan = make_plan(format=format)
    write_some(tmp_path, plan, num_shards=4)
    inflict(tmp_path / SHARD_FILE[format])

    with writing(tmp_path, plan) as writer:
        assert writer.pending[0].name == "view-00001-part-00000"
    write_store(tmp_path, plan)

    assert contents(tmp_path) == finished(plan)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"shard": 1}'])
def test_a_shard_with_a_broken_record_counts_as_missing(tmp_path: Path, finished: Finished, data: bytes) -> None:
    plan = make_plan()
    write_some(tmp_path, plan, num_shards=2)
    (tmp_path / "commits/view-00000-part-00000.json").write_bytes(data)

    with writing(tmp_path, plan) as writer:
        assert writer.pending[0].name == "view-00000-part-00000"
    write_store(tmp_path, plan)

    assert contents(tmp_path) == finished(plan)


@BOTH_FORMATS
def test_a_shard_that_was_damaged_before_the_end_is_found_and_written_anew(
    tmp_path: Path, finished: Finished, format: FormatName
) -> None:
    plan = make_plan(format=format)
    write_some(tmp_path, plan, num_shards=6)
    flip_byte(tmp_path / SHARD_FILE[format])

    with pytest.raises(
        DamagedStore, match=r"the finished shard view-00001-part-00000 is not what was written"
    ) as refused:
        write_store(tmp_path, plan)

    assert "Run the same command again: it writes that anew." in str(refused.value)
    assert is_unfinished(tmp_path)
    with writing(tmp_path, plan) as writer:
        assert [shard.name for shard in writer.pending] == ["view-00001-part-00000"]
    write_store(tmp_path, plan)
    assert contents(tmp_path) == finished(plan)


def test_a_shard_whose_content_hashes_were_damaged_is_written_anew(tmp_path: Path, finished: Finished) -> None:
    plan = make_plan()
    write_some(tmp_path, plan, num_shards=6)
    flip_byte(tmp_path / "commits/view-00001-part-00000.hashes")

    with (
        pytest.raises(DamagedStore, match=re.escape("Run the same command again: it writes that shard anew.")),
        writing(tmp_path, plan) as writer,
    ):
        writer.content_hashes(writer.finished[3])

    with writing(tmp_path, plan) as writer:
        assert [shard.name for shard in writer.pending] == ["view-00001-part-00000"]
    write_store(tmp_path, plan)
    assert contents(tmp_path) == finished(plan)


@pytest.mark.parametrize(
    ("failure", "error"),
    [(Crash(), Crash), (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), StoreWriteFailed)],
    ids=["crash", "full disk"],
)
def test_a_failure_at_any_moment_costs_only_the_shard_in_flight(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch, failure: BaseException, error: type[Exception]
) -> None:
    """Each `fsync` of a dump in turn is the first that fails, until there is none left to fail."""
    plan = make_plan(format="parquet", num_samples=8, num_views=1)
    num_failures, is_failing = 0, True

    while is_failing:
        root = tmp_path / str(num_failures)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", from_call(num_failures + 1, raise_(failure)))
            try:
                write_store(root, plan)
                is_failing = False
            except error:
                num_failures += 1
        num_done = count_finished_shards(root)
        if find_finished(root, plan) is None:
            with writing(root, plan) as writer:
                assert len(writer.finished) == num_done
            write_store(root, plan)
        assert contents(root) == finished(plan)

    assert num_failures > 2 * 8


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", from_call(8, raise_(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))))

    with pytest.raises(StoreWriteFailed, match="No space left on device") as refused:
        write_store(tmp_path, make_plan())

    assert "make room or mend the cause, then run the same command again to go on." in str(refused.value)


@BOTH_FORMATS
def test_a_dump_goes_on_when_a_full_disk_has_room_again(
    finished: Finished, resize_disk: Callable[[int], Path], format: FormatName
) -> None:
    plan = make_plan(format=format, features={"map": (64, 64)})
    root = resize_disk(128) / "store"

    with pytest.raises(StoreWriteFailed, match=re.escape("Nothing that was finished is lost: make room")) as refused:
        write_store(root, plan)

    assert "No space left on device" in str(refused.value)
    assert 0 < count_finished_shards(root) < 6
    resize_disk(4096)
    write_store(root, plan)
    assert contents(root) == finished(plan)


@pytest.mark.process
def test_a_killed_process_costs_only_the_shard_in_flight(tmp_path: Path, finished: Finished) -> None:
    plan, root = make_plan(), tmp_path / "store"
    assert run_in_fork(write_until_killed, root, plan) == -signal.SIGKILL

    num_done = count_finished_shards(root)
    with writing(root, plan) as writer:
        assert len(writer.finished) == num_done == 2
    write_store(root, plan)

    assert contents(root) == finished(plan)


# What is refused.


@pytest.mark.parametrize("change", changed_plans())
def test_going_on_with_another_plan_is_refused_with_the_difference(tmp_path: Path, change: str) -> None:
    write_some(tmp_path, make_plan(), num_shards=1)
    before = contents(tmp_path)
    plan, difference = changed_plans()[change]

    with pytest.raises(StoreMismatch, match=re.escape(difference)) as refused:
        write_store(tmp_path, plan)

    assert "Repeat the first command to go on with it, or choose another `out`." in str(refused.value)
    assert contents(tmp_path) == before


def test_a_broken_plan_says_how_to_begin_again(tmp_path: Path) -> None:
    write_some(tmp_path, make_plan(), num_shards=1)
    (tmp_path / PLAN_NAME).write_text("{}")

    with pytest.raises(StoreError, match=re.escape(f"Remove {tmp_path} and dump again.")):
        write_store(tmp_path, make_plan())


def test_writing_over_a_finished_store_is_refused(tmp_path: Path, finished: Finished) -> None:
    write_store(tmp_path, make_plan())

    with pytest.raises(StoreExists, match=re.escape("Choose another folder, or remove that one.")):
        write_store(tmp_path, make_plan())

    assert contents(tmp_path) == finished(make_plan())


@pytest.mark.parametrize("name", ["thesis.tex", "notes/thesis.tex", "commits/thesis.tex", ".hidden"])
def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("ten years of work")

    with pytest.raises(StoreExists, match=re.escape("is a folder with other files in it. Choose another folder.")):
        write_store(tmp_path, make_plan())

    assert contents(tmp_path) == {name: b"ten years of work"}


def test_a_folder_with_commits_of_its_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "commits").mkdir()
    (tmp_path / "commits/log").write_text("1")
    (tmp_path / "thesis.tex").write_text("ten years of work")

    with pytest.raises(StoreExists, match=re.escape("Choose another folder.")):
        write_store(tmp_path, make_plan())

    assert contents(tmp_path) == {"commits/log": b"1", "thesis.tex": b"ten years of work"}


def test_an_empty_folder_may_be_written_to(tmp_path: Path, finished: Finished) -> None:
    write_store(tmp_path, make_plan())

    assert contents(tmp_path) == finished(make_plan())


def test_a_file_in_the_stores_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("ten years of work")

    with pytest.raises(StoreExists, match=re.escape("is a file. Choose another folder.")):
        write_store(tmp_path / "store", make_plan())


def test_a_file_in_place_of_a_folder_above_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("ten years of work")

    with pytest.raises(StoreExists, match=re.escape(f"{tmp_path / 'thesis'}: is a file. Choose another folder.")):
        write_store(tmp_path / "thesis/labels/store", make_plan())


def test_a_second_process_is_told_that_the_store_is_busy(tmp_path: Path, workers: ProcessPoolExecutor) -> None:
    with writing(tmp_path, make_plan()):
        answer = workers.submit(try_to_write, tmp_path).result()

    assert "another process is writing this store. Wait until it ends" in answer
    assert workers.submit(try_to_write, tmp_path).result() == "writing"


def write_what_is_pending(root: Path, plan: StorePlan) -> str:
    try:
        with joining(root, plan) as writer:
            for shard in writer.pending:
                write_shard(writer, shard, make_arrays(plan))
    except StoreBusy as error:
        return str(error)
    return "written"


def test_a_process_that_joins_writes_shards_which_the_first_one_finishes(
    tmp_path: Path, workers: ProcessPoolExecutor, finished: Finished
) -> None:
    plan = make_plan()
    write_some(tmp_path, plan, num_shards=1)

    with writing(tmp_path, plan, lets_others_join=True) as writer:
        assert len(writer.pending) == 5
        assert workers.submit(write_what_is_pending, tmp_path, plan).result() == "written"
        writer.reread()
        assert writer.pending == []
        writer.finalize(make_samples(plan))

    assert contents(tmp_path) == finished(plan)


def test_a_process_that_joins_sweeps_nothing(tmp_path: Path) -> None:
    """What looks like left behind may be what another process is writing."""
    with writing(tmp_path, make_plan(), lets_others_join=True):
        half = tmp_path / "outputs/logits/half.0123456789ab.tmp"
        half.parent.mkdir(parents=True)
        half.touch()
        with joining(tmp_path, make_plan()):
            assert half.exists()


def test_nobody_joins_a_process_that_writes_alone(tmp_path: Path, workers: ProcessPoolExecutor) -> None:
    with writing(tmp_path, make_plan()):
        answer = workers.submit(write_what_is_pending, tmp_path, make_plan()).result()

    assert "another process is writing this store. Wait until it ends" in answer


def test_a_store_stays_busy_until_all_who_joined_have_ended(tmp_path: Path, workers: ProcessPoolExecutor) -> None:
    plan = make_plan()
    with ExitStack() as second:
        with writing(tmp_path, plan, lets_others_join=True):
            second.enter_context(joining(tmp_path, plan))
        assert "another process is writing this store" in workers.submit(try_to_write, tmp_path).result()

    assert workers.submit(try_to_write, tmp_path).result() == "writing"


def test_a_shard_is_committed_once(tmp_path: Path) -> None:
    """Where locks are not granted, the record decides."""
    plan = make_plan()
    arrays = make_arrays(plan)

    shard = plan.grid.shard(0, 0)

    with writing(tmp_path, plan) as writer:
        assert write_shard(writer, shard, arrays) > 0
        assert write_shard(writer, shard, arrays) == 0  # the very same files
        before = contents(tmp_path)
        other = {name: np.roll(array, 1, axis=1) for name, array in arrays.items()}
        with pytest.raises(StoreBusy, match=re.escape("Let that one go on.")):
            write_shard(writer, shard, other)
        assert contents(tmp_path) == before, "the first one's files stay"
