import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from softlab.loading.order import LEAST_WINDOWS, WINDOW_BATCHES, ShuffledBatches, by_length, epoch_order
from softlab.ranks import Ranks
from softlab.student.collectives import own_rows


@st.composite
def runs(draw: st.DrawFn) -> ShuffledBatches:
    num_samples = draw(st.integers(1, 80))
    lengths = draw(st.lists(st.integers(1, 9), min_size=num_samples, max_size=num_samples))
    return ShuffledBatches(
        num_samples=num_samples,
        batch_size=draw(st.sampled_from([2, 4, 6, 100])),
        epochs=draw(st.integers(1, 3)),
        seed=draw(st.sampled_from([0, 1, 2**64 - 1])),
        block_rows=draw(st.none() | st.integers(1, 20)),
        lengths_N=np.array(lengths),
    )


def as_lists(run: ShuffledBatches) -> list[list[int]]:
    return [batch.source_B.tolist() for batch in run]


def plain(run: ShuffledBatches, *, first_step: int = 0, lengths: bool = False) -> ShuffledBatches:
    return ShuffledBatches(
        num_samples=run.num_samples,
        batch_size=run.batch_size,
        epochs=run.epochs,
        seed=run.seed,
        block_rows=run.block_rows,
        first_step=first_step,
        lengths_N=run.lengths_N if lengths else None,
    )


@given(run=runs())
def test_an_epoch_has_the_samples_that_it_has_without_each_once(run: ShuffledBatches) -> None:
    grouped, shuffled, steps = as_lists(run), as_lists(plain(run)), run.steps_per_epoch

    assert list(map(len, grouped)) == list(map(len, shuffled))
    for start in range(0, len(grouped), steps):
        found = [sample for batch in grouped[start : start + steps] for sample in batch]
        assert len(set(found)) == len(found)
        assert sorted(found) == sorted(sample for batch in shuffled[start : start + steps] for sample in batch)


@given(run=runs(), data=st.data())
def test_a_run_resumed_at_any_step_gives_exactly_the_rest(run: ShuffledBatches, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, run.num_steps))

    assert as_lists(plain(run, first_step=step, lengths=True)) == as_lists(run)[step:]


@given(run=runs())
def test_two_ranks_together_have_the_batches_of_one(run: ShuffledBatches) -> None:
    assume(len(next(iter(run))) % 2 == 0)  # else a run is refused

    parts = [[own_rows(rows, Ranks(rank=rank, count=2)).source_B for rows in run] for rank in range(2)]

    assert [np.concatenate(pair).tolist() for pair in zip(*parts, strict=True)] == as_lists(run)


def test_the_batches_of_a_window_are_its_sorted_samples_in_random_order() -> None:
    lengths_N = np.random.default_rng(0).integers(1, 1000, size=2560)
    order = epoch_order(2560, seed=3, epoch=1)

    grouped = by_length(order, lengths_N, batch_size=4, seed=3, epoch=1)

    size = WINDOW_BATCHES * 4
    for start in range(0, 2560, size):
        window, batches = order[start : start + size], grouped[start : start + size].reshape(-1, 4)
        firsts = lengths_N[batches[:, 0]]
        assert firsts.tolist() != sorted(firsts)
        in_order = batches[firsts.argsort(kind="stable")].reshape(-1)
        assert lengths_N[in_order].tolist() == sorted(lengths_N[window].tolist())


def test_epochs_seeds_and_lengths_give_other_batches_and_these_alone() -> None:
    lengths_N = np.random.default_rng(0).integers(1, 20, size=640)
    order = epoch_order(640, seed=0, epoch=0)

    def grouped(*, seed: int = 0, epoch: int = 0) -> list[int]:
        found: list[int] = by_length(order, lengths_N, batch_size=8, seed=seed, epoch=epoch).tolist()
        return found

    assert grouped() == grouped()
    assert len({tuple(each) for each in (grouped(), grouped(seed=1), grouped(epoch=1))}) == 3


@pytest.mark.parametrize("num_batches", [2 * LEAST_WINDOWS, 40, 1000])
def test_samples_of_a_batch_are_of_similar_length_and_not_the_same_each_epoch(num_batches: int) -> None:
    lengths_N = np.random.default_rng(0).integers(1, 1000, size=num_batches * 16)
    run = ShuffledBatches(num_samples=len(lengths_N), batch_size=16, epochs=2, seed=0, lengths_N=lengths_N)

    batches = [lengths_N[batch] for batch in as_lists(run)]
    shuffled = [lengths_N[batch] for batch in as_lists(plain(run))]

    def padded(found: list[NDArray[np.int64]]) -> int:
        return sum(int(each.max()) * len(each) for each in found) - int(np.concatenate(found).sum())

    assert padded(batches) < 0.6 * padded(shuffled)
    first, second = (set(map(frozenset, as_lists(run)[at:][:num_batches])) for at in (0, num_batches))
    assert len(first & second) < 0.05 * num_batches
