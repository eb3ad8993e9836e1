"""Shards that fail, among others that don't."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import ModelError, StoreWriteFailed, UnfinishedStore, UnreadableSample
from softlab.sources.source import Sample
from softlab.store.attempts import count_attempts
from softlab.store.dump_state import dump_state
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.planning import plan_dump
from tests.store.building import contents
from tests.teacher.dumping import AfraidOfTheDark, Pictures, dump, make_options, make_teacher


class Torn(Pictures):
    """Some pictures can't be read, as long as that isn't mended."""

    torn: frozenset[int] = frozenset()
    read_torn = 0

    def read(self, index: int) -> Sample:
        if index in self.torn:
            object.__setattr__(self, "read_torn", self.read_torn + 1)
            raise UnreadableSample(f"{index:04d}.png: is torn. Mend it.")
        return super().read(index)


def torn(*indices: int) -> Torn:
    source = Torn()
    object.__setattr__(source, "torn", frozenset(indices))
    return source


def plan(out: Path, source: Pictures, teacher: nn.Module | None = None) -> DumpJob:
    """Of four shards of 16 pictures."""
    return plan_dump(teacher or make_teacher(), source, out, make_options())


def test_a_shard_that_always_fails_is_set_aside_after_three_tries_and_the_others_are_done(tmp_path: Path) -> None:
    dump(tmp_path / "alone")
    source = torn(20)
    job = plan(tmp_path / "store", source)

    with pytest.raises(UnfinishedStore) as refused:
        job.run_shards(range(4))

    assert str(refused.value) == (
        f"{tmp_path / 'store'}: all shards that were asked for are there but those that fail. Shard 1 failed 3 times "
        f"and is set aside: UnreadableSample: 0020.png: is torn. Mend it. Mend the cause, then ask for such a shard "
        f"alone: `shards = 1` tries it again."
    )
    assert dump_state(tmp_path / "store").missing == "1"
    with pytest.raises(UnfinishedStore, match=r"1 of 4 shards are missing: 1. Shard 1 failed 3 times .*0020.png"):
        finalize(tmp_path / "store")

    tries = source.read_torn
    with pytest.raises(UnfinishedStore, match=r"Shard 1 failed 3 times"):
        job.run_shards(range(4))
    assert source.read_torn == tries, "it isn't tried again"

    object.__setattr__(source, "torn", frozenset())
    job.run_shards([1], again=True)
    finalize(tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_a_shard_that_is_asked_for_alone_and_fails_again_is_tried_once(tmp_path: Path) -> None:
    source = torn(20)
    job = plan(tmp_path, source)
    with pytest.raises(UnfinishedStore):
        job.run_shards([0, 1])

    with pytest.raises(UnfinishedStore, match=r"Shard 1 failed 4 times"):
        job.run_shards([1], again=True)


def test_tries_of_other_processes_count(tmp_path: Path) -> None:
    """One was killed after its first try."""
    source = torn(20)
    job = plan(tmp_path, source)
    with pytest.raises(KeyboardInterrupt):
        job.run_shards(range(4), on_progress=lambda each: interrupt() if each.rows > 32 else None)
    assert count_attempts(tmp_path) == {job.shard(1).name: 1}

    with pytest.raises(UnfinishedStore, match=r"Shard 1 failed 3 times"):
        job.run_shards(range(4))


def interrupt() -> None:
    raise KeyboardInterrupt


def test_what_the_teacher_gives_for_a_sample_is_the_shards_fault_too(tmp_path: Path) -> None:
    """It is found at the commit, beside the work on the next shard."""
    source = Pictures(black=frozenset({40}))
    job = plan(tmp_path, source, AfraidOfTheDark(float("nan")))

    with pytest.raises(UnfinishedStore, match=r"Shard 2 failed 3 times .*TeacherError: .*'0040.png'"):
        job.run_shards(range(4))

    assert dump_state(tmp_path).missing == "2"


def test_several_that_fail_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(UnfinishedStore, match=r"Shards 1,3 failed 3 times or more and are set aside; shard 1: .*0020"):
        plan(tmp_path, torn(20, 48)).run_shards(range(4))


def test_a_process_that_can_do_nothing_ends_with_its_error(tmp_path: Path) -> None:
    """No shard is tried a second time then."""
    source = torn(5, 20, 40, 49)
    job = plan_dump(make_teacher(), Pictures(), tmp_path, make_options())
    with pytest.raises(UnreadableSample, match=r"0040.png"):
        replace(job, source=source).run_shards(range(4))

    assert [each.attempts for each in dump_state(tmp_path).failed] == [1, 1, 1]


class Failing(nn.Module):
    """A teacher that raises an error once it is to see many pictures."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.teacher, self.error, self.calls, self.most = make_teacher(), error, 0, 1 << 30

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > self.most:
            raise self.error
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no room"), RuntimeError("CUDA error: an illegal memory access"), OSError(errno.EIO, "?")],
    ids=["memory", "device", "system"],
)
def test_an_error_of_the_machine_ends_the_process_and_is_no_try(tmp_path: Path, error: Exception) -> None:
    teacher = Failing(error)
    job = plan(tmp_path, Pictures(), teacher)
    teacher.most = teacher.calls + 3

    with pytest.raises(ModelError, match=type(error).__name__):
        job.run_shards(range(4))

    assert dump_state(tmp_path).failed == ()


def test_a_full_disk_is_no_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = plan(tmp_path, Pictures())
    monkeypatch.setattr("softlab.store.place.write_whole", refuse(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))

    with pytest.raises(StoreWriteFailed, match="full"):
        job.run_shards(range(4))

    assert dump_state(tmp_path).failed == ()


def refuse(error: OSError) -> Callable[..., None]:
    def raise_it(root: Path, _: object) -> None:
        raise StoreWriteFailed(f"{root}: full") from error

    return raise_it
