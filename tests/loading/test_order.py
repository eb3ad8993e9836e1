import tracemalloc
from dataclasses import asdict
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.loading import order as order_module
from softlab.loading.order import (
    WHOLE_SAMPLES,
    ShuffledBatches,
    ViewOrder,
    by_place,
    epoch_order,
    in_sequence,
    spread_out,
)
from softlab.loading.windows import WINDOW_BLOCKS

counts = st.integers(1, 200)
seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 1000)


@given(num_samples=counts, seed=seeds, epoch=epochs)
def test_an_epoch_holds_every_sample_once(num_samples: int, seed: int, epoch: int) -> None:
    order = epoch_order(num_samples, seed=seed, epoch=epoch)

    assert sorted(order.tolist()) == list(range(num_samples))


@given(num_samples=counts, seed=seeds, epoch=epochs)
def test_the_order_is_a_function_of_seed_and_epoch_alone(num_samples: int, seed: int, epoch: int) -> None:
    first = epoch_order(num_samples, seed=seed, epoch=epoch)
    np.random.default_rng().random(7)
    epoch_order(num_samples, seed=seed, epoch=epoch + 1)

    assert epoch_order(num_samples, seed=seed, epoch=epoch).tolist() == first.tolist()


def test_the_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    # A run that was begun by an earlier release must go on in the same order.
    assert epoch_order(10, seed=3, epoch=2).tolist() == [4, 3, 6, 5, 2, 9, 0, 1, 8, 7]


@given(seed=seeds, epoch=epochs, other=st.tuples(seeds, epochs))
def test_another_seed_or_epoch_gives_another_order(seed: int, epoch: int, other: tuple[int, int]) -> None:
    # Two of the 100! orders agree by chance with a probability below 1e-150.
    same = epoch_order(100, seed=seed, epoch=epoch).tolist() == epoch_order(100, seed=other[0], epoch=other[1]).tolist()

    assert same == ((seed, epoch) == other)


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63, 2**64 - 2])
def test_neighbouring_seeds_give_different_orders_however_large_they_are(seed: int) -> None:
    assert epoch_order(100, seed=seed, epoch=0).tolist() != epoch_order(100, seed=seed + 1, epoch=0).tolist()


# Shuffled in blocks.


blocks = st.integers(1, 60)


@given(num_samples=counts, seed=seeds, epoch=epochs, block_rows=blocks)
def test_in_blocks_an_epoch_still_holds_every_sample_once(
    num_samples: int, seed: int, epoch: int, block_rows: int
) -> None:
    order = epoch_order(num_samples, seed=seed, epoch=epoch, block_rows=block_rows)

    assert sorted(order.tolist()) == list(range(num_samples))
    again = epoch_order(num_samples, seed=seed, epoch=epoch, block_rows=block_rows)
    assert order.tolist() == again.tolist()


@given(seed=seeds, block_rows=st.integers(1, 9))
def test_the_samples_of_a_few_blocks_come_together(seed: int, block_rows: int) -> None:
    """So that a pass over a store decodes each shard once."""
    num_samples = 3 * WINDOW_BLOCKS * block_rows
    order = epoch_order(num_samples, seed=seed, epoch=0, block_rows=block_rows)

    windows = (order // block_rows).reshape(3, -1)
    seen = [set(window.tolist()) for window in windows]
    assert [len(window) for window in seen] == [WINDOW_BLOCKS] * 3
    assert seen[0] | seen[1] | seen[2] == set(range(3 * WINDOW_BLOCKS))


def test_blocks_are_shuffled_and_their_samples_among_each_other() -> None:
    order = epoch_order(10_000, seed=0, epoch=0, block_rows=100)

    first_blocks = (order[: 100 * WINDOW_BLOCKS] // 100).tolist()
    assert len(set(first_blocks)) == WINDOW_BLOCKS
    assert max(first_blocks) - min(first_blocks) > 2 * WINDOW_BLOCKS
    in_one_batch = set(first_blocks[:64])
    assert len(in_one_batch) == WINDOW_BLOCKS


def test_as_many_samples_as_one_window_holds_are_shuffled_as_a_whole() -> None:
    order = epoch_order(1000, seed=0, epoch=0, block_rows=1000)

    assert (np.diff(order) == 1).sum() < 10


# Of more samples than are shuffled as a whole.


@given(num_samples=counts, seed=seeds, epoch=epochs, block_rows=st.none() | blocks, data=st.data())
def test_by_place_an_epoch_holds_every_sample_once_however_it_is_cut(
    num_samples: int, seed: int, epoch: int, block_rows: int | None, data: st.DataObject
) -> None:
    found = by_place(num_samples, seed=seed, epoch=epoch, block_rows=block_rows)
    middle = data.draw(st.integers(0, num_samples))

    parts = [*found(0, middle).tolist(), *found(middle, num_samples).tolist()]
    assert parts == found(0, num_samples).tolist()
    assert sorted(parts) == list(range(num_samples))


@given(seed=seeds, block_rows=st.integers(1, 9))
def test_by_place_the_samples_of_a_few_blocks_come_together(seed: int, block_rows: int) -> None:
    num_samples = 3 * WINDOW_BLOCKS * block_rows
    found = by_place(num_samples, seed=seed, epoch=0, block_rows=block_rows)(0, num_samples)

    windows = (found // block_rows).reshape(3, -1)
    assert [len(set(window.tolist())) for window in windows] == [WINDOW_BLOCKS] * 3


@pytest.mark.parametrize("block_rows", [None, 1 << 16])
@pytest.mark.parametrize("view_order", ["cycle", "random"])
def test_a_run_over_a_billion_samples_begins_anywhere_without_holding_their_order(
    block_rows: int | None, view_order: ViewOrder
) -> None:
    run = ShuffledBatches(
        num_samples=10**9,
        batch_size=1000,
        epochs=3,
        seed=0,
        num_views=3,
        view_order=view_order,
        block_rows=block_rows,
        first_step=1_999_998,  # of 1,000,000 in an epoch
    )
    tracemalloc.start()

    first = list(islice(run, 4))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6
    again = ShuffledBatches(**{**asdict(run), "first_step": 2_000_000})
    assert [batch.source_B.tolist() for batch in islice(again, 2)] == [batch.source_B.tolist() for batch in first[2:]]
    assert [batch.views_B.tolist() for batch in islice(again, 2)] == [batch.views_B.tolist() for batch in first[2:]]


def test_up_to_the_size_that_is_named_epochs_are_those_that_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "WHOLE_SAMPLES", 1000)

    few, more = epoch_order(1000, seed=0, epoch=0), epoch_order(1001, seed=0, epoch=0)
    assert few.tolist() == np.random.Generator(np.random.Philox(key=[0, 0])).permutation(1000).tolist()
    assert more.tolist() == by_place(1001, seed=0, epoch=0)(0, 1001).tolist()
    assert WHOLE_SAMPLES == 2**24


@given(start=st.integers(0, 50), count=st.integers(0, 50), batch_size=st.integers(1, 60))
def test_batches_in_sequence_are_the_range_cut_into_pieces(start: int, count: int, batch_size: int) -> None:
    batches = in_sequence(start, start + count, batch_size=batch_size)

    assert [number for batch in batches for number in batch.source_B.tolist()] == list(range(start, start + count))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(1 <= len(batch) <= batch_size for batch in batches)


runs = st.builds(
    ShuffledBatches,
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 5),
)


def as_lists(run: ShuffledBatches) -> list[list[int]]:
    return [batch.source_B.tolist() for batch in run]


@given(run=runs)
def test_an_epoch_is_its_order_cut_into_whole_batches(run: ShuffledBatches) -> None:
    batches = as_lists(run)

    assert len(batches) == len(run) == run.num_steps == run.epochs * run.steps_per_epoch
    for epoch in range(run.epochs):
        steps = range(epoch * run.steps_per_epoch, (epoch + 1) * run.steps_per_epoch)
        seen = [number for step in steps for number in batches[step]]
        assert seen == epoch_order(run.num_samples, seed=run.seed, epoch=epoch)[: len(seen)].tolist()
        assert 0 <= run.num_samples - len(seen) < run.batch_size


@given(run=runs)
def test_only_a_source_smaller_than_a_batch_gives_short_batches(run: ShuffledBatches) -> None:
    assert {len(batch) for batch in as_lists(run)} == {min(run.batch_size, run.num_samples)}


@given(run=runs, data=st.data())
def test_a_run_resumed_at_any_step_gives_exactly_the_rest(run: ShuffledBatches, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, run.num_steps))
    resumed = ShuffledBatches(
        num_samples=run.num_samples, batch_size=run.batch_size, epochs=run.epochs, seed=run.seed, first_step=step
    )

    assert as_lists(resumed) == as_lists(run)[step:]
    assert len(resumed) == run.num_steps - step


def test_samples_left_out_of_one_epoch_come_in_others() -> None:
    run = ShuffledBatches(num_samples=10, batch_size=4, epochs=20, seed=0)

    assert {number for batch in as_lists(run) for number in batch} == set(range(10))


@given(num_samples=counts, data=st.data())
def test_samples_from_all_over_are_different_and_in_order(num_samples: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, num_samples))

    rows = spread_out(num_samples, count=count)

    assert len(set(rows.source_B.tolist())) == len(rows) == count
    gaps = np.diff(rows.source_B, append=num_samples)
    assert gaps.min() >= num_samples // count
    assert gaps.max() <= num_samples // count + 1
    assert rows.views_B.tolist() == [0] * count
