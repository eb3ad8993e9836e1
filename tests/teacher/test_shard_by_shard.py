"""Shards that one process is given one after another, with one teacher."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from softlab.errors import StoreMismatch, StoreWriteFailed
from softlab.locks import exclusive
from softlab.remote.remote import Place
from softlab.sources.source import Sample
from softlab.store.access import settle_plan
from softlab.store.folder import LOCK_NAME, is_unfinished
from softlab.store.writer import StoreWriter
from softlab.teacher.forward import Teacher, TeacherRun
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher, plan_dump
from softlab.teacher.same_teacher import check_same_teacher
from softlab.teacher.shard_by_shard import Settled, ShardByShard
from tests.store.building import contents
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher


@dataclass(frozen=True, kw_only=True)
class Broken(Pictures):
    """The third shard has a picture that can't be read while there is a file."""

    marker: Path

    def read(self, index: int) -> Sample:
        if index == 35 and self.marker.exists():
            raise OSError("the server with this picture is gone")
        return super().read(index)


class Moved(nn.Module):
    """The small teacher, whose logits are moved by as much as no device explains."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = make_teacher()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW) * 1.5
        return logits_BC


def plan(out: Path, *, source: Pictures | None = None, views: int = 1) -> DumpJob:
    """Of four shards a view."""
    options = make_options(views=views)
    return plan_dump(make_teacher(), source or Pictures(), out, options, augment=AUGMENT if views > 1 else None)


def do_all(job: DumpJob, numbers: list[int]) -> list[Settled]:
    with ShardByShard(job) as shards:
        return [settled for number in numbers for settled in shards.do(number)] + shards.settle()


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often a teacher is started, and compared."""
    counts = {"started": 0, "compared": 0}
    start, check = Teacher.start, check_same_teacher

    def start_and_count(teacher: Teacher, options: DumpOptions) -> object:
        counts["started"] += 1
        return start(teacher, options)

    def check_and_count(run: TeacherRun, aligned: object, stored: list[object], *, where: Path) -> None:
        counts["compared"] += bool(stored)
        check(run, aligned, stored, where=where)  # type: ignore[arg-type]

    monkeypatch.setattr(Teacher, "start", start_and_count)
    monkeypatch.setattr("softlab.teacher.job.check_same_teacher", check_and_count)
    yield counts


def test_all_shards_in_any_order_make_the_store_of_one_dump(tmp_path: Path) -> None:
    dump(tmp_path / "alone", make_options(views=2), augment=AUGMENT)
    job = plan(tmp_path / "store", views=2)

    settled = do_all(job, [5, 0, 7, 2, 1, 2, 6, 3, 4])
    finalize(tmp_path / "store")

    assert sorted(each.number for each in settled) == [0, 1, 2, 2, 3, 4, 5, 6, 7]
    assert not any(each.error for each in settled)
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_a_shard_is_told_of_when_the_next_one_is_computed(tmp_path: Path) -> None:
    with ShardByShard(plan(tmp_path / "store")) as shards:
        told = [shards.do(3), shards.do(1), shards.settle(), shards.settle()]

    assert [[each.number for each in settled] for settled in told] == [[], [3], [1], []]


def test_a_shard_that_was_computed_is_committed_when_nobody_waits_for_it(tmp_path: Path) -> None:
    with ShardByShard(plan(tmp_path / "store")) as shards:
        shards.do(3)

    assert (tmp_path / "store/commits/view-00000-part-00003.json").exists()


def test_the_teacher_is_started_once_and_compared_once_with_what_others_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(monkeypatch) as counts, ShardByShard(plan(tmp_path / "store", views=2)) as shards:
        for number in (1, 2):
            shards.do(number)
        shards.settle()
        alone = dict(counts)
        plan(tmp_path / "store", views=2).run_shard(0)
        counts |= {"started": 0, "compared": 0}
        for number in (3, 4, 5):
            shards.do(number)

    assert alone == {"started": 1, "compared": 0}
    assert counts == {"started": 0, "compared": 1}


def test_another_teacher_is_found_out_when_others_have_stored_something(tmp_path: Path) -> None:
    job = plan(tmp_path / "store")
    other = replace(job, teacher=as_teacher(Moved()))
    job.run_shard(0)

    (settled,) = do_all(other, [1])

    assert isinstance(settled.error, StoreMismatch)
    assert "the teacher isn't the one that began" in str(settled.error)


def test_a_shard_that_fails_is_told_and_the_next_ones_are_done_by_a_teacher_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump(tmp_path / "alone")
    marker = tmp_path / "marker"
    job = plan(tmp_path / "store", source=Broken(marker=marker))
    marker.touch()

    with counted(monkeypatch) as counts:
        settled = do_all(job, [0, 2, 1, 3])
        num_started = counts["started"]
    marker.unlink()
    again = do_all(job, [2])
    finalize(tmp_path / "store")

    assert [each.number for each in settled] == [0, 2, 1, 3]
    assert [str(each.error) for each in settled if each.error] == ["the server with this picture is gone"]
    assert num_started == 2
    assert [each.error for each in again] == [None]
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_a_commit_that_fails_is_told_as_its_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, write = plan(tmp_path / "store"), StoreWriter.write

    def refuse_the_second(writer: StoreWriter, shard: object, **values: object) -> int:
        if getattr(shard, "part", None) == 1:
            raise StoreWriteFailed("no room")
        return write(writer, shard, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(StoreWriter, "write", refuse_the_second)

    settled = do_all(job, [0, 1, 2])

    assert [(each.number, str(each.error)) for each in settled] == [(0, "None"), (1, "no room"), (2, "None")]


def test_the_store_is_held_only_while_a_shard_is_computed_or_committed(tmp_path: Path) -> None:
    with ShardByShard(plan(tmp_path / "store")) as shards:
        shards.do(0)
        shards.settle()

        with exclusive(tmp_path / "store" / LOCK_NAME):
            pass


def test_what_is_known_of_the_samples_is_read_for_the_first_shard_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, read = plan(tmp_path / "store"), list[Place]()

    def settle_and_note(root: Place, *of: object, **values: object) -> None:
        read.append(root)
        settle_plan(root, *of, **values)  # type: ignore[arg-type]

    monkeypatch.setattr("softlab.teacher.job.settle_plan", settle_and_note)

    do_all(job, [0, 1, 2])

    assert read == [job.out]


def test_a_folder_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    job = plan(tmp_path / "store")
    with ShardByShard(job) as shards:
        shards.do(0)
        shards.settle()
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        settled = [*shards.do(1), *shards.settle()]

    assert [(each.number, each.error) for each in settled] == [(1, None)]
    assert is_unfinished(tmp_path / "store")


def test_shards_of_a_store_that_others_finish_are_there(tmp_path: Path) -> None:
    job = plan(tmp_path / "store")
    with ShardByShard(job) as shards:
        shards.do(0)
        shards.settle()
        for number in range(1, 4):
            job.run_shard(number)
        finalize(tmp_path / "store")
        settled = shards.do(3)

    assert [(each.number, each.error) for each in settled] == [(3, None)]
