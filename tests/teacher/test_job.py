"""A dump as a job: its shards are computed in any order, by any processes, and the store is that of one process."""

import pickle
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import DamagedStore, InvalidOption, NotAStore, StoreExists, StoreMismatch, UnfinishedStore
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store import place, writer
from softlab.store.commit_record import CommitRecord, read_commit
from softlab.store.folder import is_unfinished, read_plan
from softlab.store.format import FormatName
from softlab.store.place import StoreFiles
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.forward import Teacher
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import plan_dump
from tests.forks import FORKS, run_in_fork
from tests.kills import kill_this_process
from tests.store.building import FORMATS, contents, flip_byte
from tests.teacher.augmenting import AUGMENT, dump_views
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher, stop_at

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)


def plan(
    out: Path,
    options: DumpOptions | None = None,
    *,
    teacher: nn.Module | None = None,
    source: Pictures | None = None,
    augment: ViewRecipe | None = None,
) -> DumpJob:
    """Of four shards a view."""
    module = make_teacher() if teacher is None else teacher
    return plan_dump(module, source or Pictures(), out, options or make_options(), augment=augment)


def run_all(job: DumpJob) -> None:
    for number in range(len(job.shards)):
        job.run_shard(number)


# In other processes.


def run_shards(job: DumpJob, numbers: list[int]) -> None:
    torch.set_num_threads(1)
    for number in numbers:
        job.run_shard(number)


def run_and_die(job: DumpJob, number: int) -> None:
    job.run_shard(number)
    kill_this_process()


def die_before_the_record(job: DumpJob, number: int) -> None:
    """All files of the shard are there then."""
    place.create_file = lambda *_: kill_this_process()  # type: ignore[attr-defined]
    job.run_shard(number)


@pytest.mark.process
@BOTH_FORMATS
def test_two_processes_that_do_all_shards_in_another_order_make_the_store_of_one(
    tmp_path: Path, format: FormatName
) -> None:
    """Each shard is done twice."""
    options = make_options(format=format, feature={"pooled": "relu:mean"})
    digest = dump(tmp_path / "alone", options).digest
    job = plan(tmp_path / "store", options)

    processes = [FORKS.Process(target=run_shards, args=(job, order)) for order in ([3, 0, 2, 1], [1, 2, 3, 0])]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    finalize(tmp_path / "store")

    assert [process.exitcode for process in processes] == [0, 0]
    assert open_store(tmp_path / "store").digest == digest
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


@pytest.mark.process
@pytest.mark.parametrize(
    ("die", "state"), [(run_and_die, "already there"), (die_before_the_record, "written")], ids=["after", "before"]
)
def test_a_process_that_is_killed_at_its_commit_is_run_again(
    tmp_path: Path, die: Callable[[DumpJob, int], None], state: str
) -> None:
    dump(tmp_path / "alone")
    job = plan(tmp_path / "store")
    code = run_in_fork(die, job, 1)

    found = [job.run_shard(number) for number in (1, 0, 3, 2)]
    finalize(tmp_path / "store")

    assert code == -signal.SIGKILL
    assert found == [state, "written", "written", "written"]
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


# One shard.


def test_a_shard_that_is_there_already_is_not_computed_again(tmp_path: Path) -> None:
    job = plan(tmp_path / "store")

    assert [job.run_shard(2), job.run_shard(2)] == ["written", "already there"]
    run_all(job)
    finalize(tmp_path / "store")
    assert job.run_shard(2) == "already there", "nor of a finished store"


@pytest.mark.parametrize("name", ["commits/view-00000-part-00001.json", "commits/view-00000-part-00001.hashes"])
def test_a_shard_of_which_something_is_damaged_can_be_run_again(tmp_path: Path, name: str) -> None:
    dump(tmp_path / "alone")
    job = plan(tmp_path / "store")
    run_all(job)
    flip_byte(tmp_path / "store" / name, position=10)

    with pytest.raises((DamagedStore, UnfinishedStore), match=r"[Rr]un .* again"):
        finalize(tmp_path / "store")
    found = [job.run_shard(number) for number in range(4)]
    finalize(tmp_path / "store")

    assert found == ["already there", "written", "already there", "already there"]
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_a_plan_says_what_is_there_and_writes_nothing_but_itself(tmp_path: Path) -> None:
    job = plan(tmp_path / "store")

    assert [(shard.view, shard.start, shard.stop) for shard in job.shards] == [
        (0, 0, 16),
        (0, 16, 32),
        (0, 32, 48),
        (0, 48, 50),
    ]
    assert contents(tmp_path / "store").keys() == {"commits/plan.json", "commits/samples.parquet"}


def test_for_one_shard_no_other_shards_records_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But those of the same samples in other views, with which they are compared."""
    job = plan(tmp_path / "store", make_options(views=3), augment=AUGMENT)
    for number in range(8):
        job.run_shard(number)
    read: set[str] = set()

    def read_and_note(files: StoreFiles, path: str) -> CommitRecord | None:
        read.add(path.removeprefix("commits/"))
        return read_commit(files, path)

    monkeypatch.setattr(writer, "read_commit", read_and_note)
    monkeypatch.setattr(place, "list_files", lambda _: pytest.fail("looks at every file"))

    assert job.run_shard(9) == "written"
    assert read == {f"view-{view:05d}-part-00001.json" for view in range(3)}


@pytest.mark.parametrize("number", [-1, 4])
def test_a_shard_that_is_not_of_the_job_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(InvalidOption, match=f"has shards 0 to 3, not {number}. Ask for one of those"):
        plan(tmp_path / "store").run_shard(number)


def test_a_job_is_gone_on_with_by_a_dump_and_a_dump_by_a_job(tmp_path: Path) -> None:
    dump(tmp_path / "alone")
    plan(tmp_path / "job").run_shard(2)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "dump", on_progress=stop_at(33))

    summary = dump(tmp_path / "job")
    job = plan(tmp_path / "dump")
    states = [job.run_shard(number) for number in range(4)]
    finalize(tmp_path / "dump")

    assert summary.rows_computed == 50 - 16
    assert states == ["already there", "already there", "written", "written"]
    assert contents(tmp_path / "job") == contents(tmp_path / "dump") == contents(tmp_path / "alone")


def test_another_plan_in_the_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    plan(tmp_path / "begun").run_shard(0)
    dump(tmp_path / "finished")

    with pytest.raises(StoreMismatch, match=re.escape("`dump.k` was 5, is now 6")):
        plan(tmp_path / "begun", make_options(k=6))
    with pytest.raises(StoreExists, match=re.escape("`dump.k` was 5, is now 6")):
        plan(tmp_path / "finished", make_options(k=6))


def test_a_job_whose_folder_was_taken_by_another_one_is_refused(tmp_path: Path) -> None:
    job = plan(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    plan(tmp_path / "store", make_options(k=6))

    with pytest.raises(StoreMismatch, match=re.escape("`dump.k` was 6, is now 5")):
        job.run_shard(0)


# Several shards with one teacher.


@BOTH_FORMATS
def test_shards_of_several_calls_in_any_order_make_the_store_of_one(tmp_path: Path, format: FormatName) -> None:
    options = make_options(format=format)
    dump(tmp_path / "alone", options)
    job = plan(tmp_path / "store", options)

    for numbers in ([3], [], [0, 3, 0], range(4)):
        job.run_shards(numbers)
    finalize(tmp_path / "store")
    job.run_shards([1])

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_progress_counts_the_rows_of_the_shards_that_were_asked_for(tmp_path: Path) -> None:
    job, told = plan(tmp_path / "store"), list[DumpProgress]()
    job.run_shard(0)

    job.run_shards([0, 3], on_progress=told.append)

    assert [(each.rows, each.total_rows) for each in told] == [(18, 18)]
    assert read_plan(tmp_path / "store") == job.plan


def test_shards_that_are_there_already_need_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = plan(tmp_path / "store")
    job.run_shards([1, 2])
    monkeypatch.setattr(Teacher, "start", lambda *_: pytest.fail("starts the teacher"))

    job.run_shards([1, 2])


# The manifest.


def test_before_all_shards_are_there_the_missing_ones_are_told(tmp_path: Path) -> None:
    job = plan(tmp_path / "store")
    job.run_shard(0)
    job.run_shard(2)

    with pytest.raises(UnfinishedStore) as refused:
        finalize(tmp_path / "store")

    assert str(refused.value) == (
        f"{tmp_path / 'store'}: 2 of 4 shards are missing: 1,3. Run those (`softlab dump-teacher --shards`, or "
        f"`run_shards`), then finalize again."
    )
    assert is_unfinished(tmp_path / "store")
    assert (job.run_shard(1), job.run_shard(2), job.run_shard(3)) == ("written", "already there", "written")
    assert finalize(tmp_path / "store").num_rows == 50


def test_the_manifest_is_written_once(tmp_path: Path) -> None:
    run_all(plan(tmp_path / "store"))
    manifest = finalize(tmp_path / "store")
    before = contents(tmp_path / "store")

    assert finalize(tmp_path / "store") == manifest == open_store(tmp_path / "store").manifest
    assert contents(tmp_path / "store") == before


def test_where_no_dump_was_begun_there_is_nothing_to_finish(tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        finalize(tmp_path / "store")


def test_a_file_that_was_damaged_meanwhile_costs_its_shard(tmp_path: Path) -> None:
    options = make_options(format="parquet")
    dump(tmp_path / "alone", options)
    job = plan(tmp_path / "store", options)
    run_all(job)
    flip_byte(tmp_path / "store/outputs/logits/view=00000/part-00001.parquet")

    with pytest.raises(DamagedStore):
        finalize(tmp_path / "store")

    assert [job.run_shard(number) for number in range(4)].count("written") == 1
    finalize(tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


# Views that are added.


def test_a_job_adds_views_to_a_finished_store(tmp_path: Path) -> None:
    for name in ("alone", "store"):
        dump_views(tmp_path / name, 2)
    dump_views(tmp_path / "alone", "+1")
    options = make_options(views="+1", pixel_digests="all")

    job = pickle.loads(pickle.dumps(plan(tmp_path / "store", options, augment=AUGMENT)))
    for number in (3, 1, 0, 2):
        job.run_shard(number)
        assert open_store(tmp_path / "store").num_views == 2
    finalize(tmp_path / "store")

    assert [shard.view for shard in job.shards] == [2, 2, 2, 2]
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


# Several outputs, and units.


class WithPositions(nn.Module):
    """Logits of each picture, and of each position of it."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.dense = make_teacher(), nn.Conv2d(3, 5, 1)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        return {"logits": self.teacher(images_BCHW), "map": self.dense(images_BCHW)}


@BOTH_FORMATS
def test_several_outputs_and_units_are_written_by_shards_in_any_order(tmp_path: Path, format: FormatName) -> None:
    torch.manual_seed(0)
    teacher, options = WithPositions(), make_options(format=format, output=("logits", "map", "conv:values=layer:dense"))
    dump(tmp_path / "alone", options, teacher=teacher)
    job = plan(tmp_path / "store", options, teacher=teacher)

    for number in (2, 3, 0, 1):
        assert job.run_shard(number) == "written"
    manifest = finalize(tmp_path / "store")

    assert [(output.name, output.units) for output in manifest.outputs] == [
        ("logits", False),
        ("map", True),
        ("conv", False),
    ]
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")
    assert verify_store(tmp_path / "store").is_intact


# What the samples were when they were first read; more in test_changed_samples.py.


def test_a_process_that_reads_another_sample_for_a_second_view_is_refused_by_its_key(tmp_path: Path) -> None:
    job = plan(tmp_path / "store", make_options(views=2), augment=AUGMENT)
    job.run_shard(0)
    elsewhere = replace(job, source=Pictures(black=frozenset({7, 20})))

    with pytest.raises(StoreMismatch, match=re.escape("sample '0007.png' has changed since")):
        elsewhere.run_shard(4)


def test_a_process_that_reads_another_sample_for_an_added_view_is_refused_by_its_key(tmp_path: Path) -> None:
    dump_views(tmp_path / "store", 1)
    job = plan(tmp_path / "store", make_options(views="+1", pixel_digests="all"), augment=AUGMENT)
    elsewhere = replace(job, source=Pictures(black=frozenset({7, 20})))

    with pytest.raises(StoreMismatch, match=re.escape("sample '0020.png' has changed since")):
        elsewhere.run_shard(1)
