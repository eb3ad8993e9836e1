# Shape letters: N samples, B samples in a batch, K entries kept.

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from softlab.errors import OddSource, TeacherError
from softlab.labels.selection import keep_top_k
from softlab.shards import Shard
from softlab.store.folder import count_finished_shards
from softlab.store.statistics import measure
from softlab.teacher.commit import MAX_SHARDS_IN_FLIGHT, BackgroundCommits, ShardOutput
from softlab.teacher.forward import OutputOnHost
from tests.teacher.dumping import AfraidOfTheDark, Pictures, dump, make_options


def said_shard(part: int) -> ShardOutput:
    batches: list[OutputOnHost] = []
    return ShardOutput(
        shard=Shard(view=0, part=part, start=4 * part, stop=4 * part + 4),
        batches=batches,
        content_hashes=[],
        view_digests=[],
    )


def commit_all(commit: Callable[[ShardOutput], None]) -> None:
    """Ten shards."""
    with BackgroundCommits(commit) as commits:
        for part in range(10):
            commits.put(said_shard(part))


# Statistics.


@pytest.mark.parametrize("k", [1, 3, 20])
def test_statistics_are_what_a_dense_count_gives(k: int) -> None:
    logits_NC = 3 * torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    targets_N = logits_NC.argmax(dim=1).numpy().copy()
    targets_N[::3] = 7
    targets_N[::5] = -1
    temperatures = (1.0, 4.0)

    statistics = measure(keep_top_k(logits_NC, k=k, temperatures=temperatures), targets_N=targets_N, clipped_logits=3)

    predicted = logits_NC.argmax(dim=1).numpy()
    masses = [(logits_NC.double() / t).softmax(dim=1).topk(k).values.sum().item() for t in temperatures]
    assert (statistics.rows, statistics.clipped_logits) == (40, 3)
    assert statistics.rows_with_target == sum(targets_N >= 0) == 32
    assert statistics.correct == sum((targets_N >= 0) & (targets_N == predicted))
    assert statistics.captured_mass == pytest.approx(masses)


def test_without_targets_there_is_no_accuracy() -> None:
    statistics = measure(keep_top_k(torch.randn(4, 20), k=2), targets_N=None, clipped_logits=0)

    assert (statistics.rows_with_target, statistics.accuracy) == (0, None)


def test_a_tiny_tail_is_not_rounded_away() -> None:
    """In float32, 1 - sum(kept) would be 0."""
    logits_NC = torch.tensor([[0.0, -20.0]])

    statistics = measure(keep_top_k(logits_NC, k=1, temperatures=[1.0]), targets_N=None, clipped_logits=0)

    assert 1 - statistics.captured_mass[0] == pytest.approx(np.exp(-20.0), rel=1e-4)


# The thread beside the teacher.


def test_shards_are_committed_in_the_order_given() -> None:
    committed: list[int] = []

    commit_all(lambda said: committed.append(said.shard.part))

    assert committed == list(range(10))


def test_the_teacher_waits_when_the_disk_is_behind() -> None:
    """Else a fast teacher would fill the memory."""
    disk_is_ready = threading.Event()
    accepted: list[int] = []

    def wait_for_disk(said: ShardOutput) -> None:
        assert disk_is_ready.wait(30)

    def run_teacher() -> None:
        with BackgroundCommits(wait_for_disk) as commits:
            for part in range(6):
                commits.put(said_shard(part))
                accepted.append(part)

    teacher = threading.Thread(target=run_teacher)
    teacher.start()
    teacher.join(timeout=0.2)
    assert len(accepted) == MAX_SHARDS_IN_FLIGHT
    disk_is_ready.set()
    teacher.join(timeout=30)

    assert accepted == list(range(6))


def test_what_a_commit_raises_reaches_the_teacher() -> None:
    def commit(said: ShardOutput) -> None:
        if said.shard.part == 1:
            raise TeacherError("part 1")

    with pytest.raises(TeacherError, match="part 1"):
        commit_all(commit)


def test_of_several_failures_the_first_is_told() -> None:
    def commit(said: ShardOutput) -> None:
        raise TeacherError(f"part {said.shard.part}")

    with pytest.raises(TeacherError, match="part 0"):
        commit_all(commit)


def test_what_was_put_is_committed_even_if_the_teacher_fails() -> None:
    committed: list[int] = []
    may_commit = threading.Event()

    def commit(said: ShardOutput) -> None:
        assert may_commit.wait(30)
        committed.append(said.shard.part)

    def run_teacher() -> None:
        with BackgroundCommits(commit) as commits:
            commits.put(said_shard(0))
            commits.put(said_shard(1))
            may_commit.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_teacher()

    assert committed == [0, 1]


# What can't be stored.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_told_by_the_samples_they_came_from(tmp_path: Path, value: float) -> None:
    """Pictures 36 and 40 lie in the third of four shards."""
    source = Pictures(black=frozenset({36, 40}))

    with pytest.raises(TeacherError) as refused:
        dump(tmp_path / "store", teacher=AfraidOfTheDark(value), source=source)

    assert "for 2 of 16 samples, such as '0036.png', '0040.png'." in str(refused.value)
    assert "heck those inputs and the weights." in str(refused.value)
    assert count_finished_shards(tmp_path / "store") == 3


def test_a_logit_beyond_float16_is_refused_with_the_coding_that_holds_it(tmp_path: Path) -> None:
    teacher, source = AfraidOfTheDark(1e5), Pictures(black=frozenset({40}))

    with pytest.raises(
        TeacherError, match=r"a logit of 100000 doesn't fit float16.*Store with `dump.coding = float32`"
    ):
        dump(tmp_path / "refused", teacher=teacher, source=source)

    assert dump(tmp_path / "store", make_options(coding="float32"), teacher=teacher, source=source).rows_computed == 50


def test_logits_that_the_coding_can_not_hold_are_counted(tmp_path: Path) -> None:
    """uint8 gaps reach 255 / 16 nats down; the second logit of black pictures lies further below."""
    source = Pictures(black=frozenset({3, 20}))

    with pytest.warns(OddSource, match="1 of 50 samples have the content of another one"):
        summary = dump(
            tmp_path / "store", make_options(coding="uint8", k=2), teacher=AfraidOfTheDark(200.0), source=source
        )

    assert summary.manifest.statistics["logits"].clipped_logits == 2
    assert [shard.statistics["logits"].clipped_logits for shard in summary.manifest.shards] == [1, 1, 0, 0]
