import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator

from softlab.bench.read_turns import (
    BATCH,
    MAX_ROWS,
    block_shuffled,
    draw_shards,
    random_rows,
    rows_in_order,
    rows_of_a_turn,
    shards_in_order,
)
from softlab.shards import ShardGrid


@pytest.fixture
def generator() -> Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("row_bytes", "num_rows", "expected"),
    [
        (1, 10**6, MAX_ROWS),
        (72, 10**6, MAX_ROWS),
        (72, 100, 25 * BATCH),  # 64 times each row
        (1 << 18, 10**6, 1024),
        (1 << 30, 10**6, BATCH),  # of huge rows one batch is enough
        (72, 1, BATCH),
    ],
)
def test_a_turn_reads_whole_batches_of_bounded_bytes(row_bytes: int, num_rows: int, expected: int) -> None:
    assert rows_of_a_turn(row_bytes, num_rows=num_rows) == expected


def test_random_rows_are_of_the_store_and_differ_between_turns(generator: Generator) -> None:
    first, second = (random_rows(generator, num_rows=1000, count=4 * BATCH) for _ in range(2))

    assert [len(batch) for batch in first] == [BATCH] * 4
    assert 0 <= np.min(first) <= np.max(first) < 1000
    assert not np.array_equal(first, second)


def test_rows_in_order_follow_each_other(generator: Generator) -> None:
    rows = np.concatenate(rows_in_order(generator, num_rows=5000, count=2 * BATCH))

    assert len(rows) == 2 * BATCH
    assert (np.diff(rows) == 1).all()
    assert 0 <= rows[0] <= rows[-1] < 5000


def test_of_a_small_store_all_rows_are_read(generator: Generator) -> None:
    rows = np.concatenate(rows_in_order(generator, num_rows=300, count=2 * BATCH))

    assert rows.tolist() == list(range(300))


@given(num_samples=st.integers(1, 5000), shard_rows=st.integers(1, 400), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_shards_are_many_and_hold_only_rows_of_those_that_are_measured(
    num_samples: int, shard_rows: int, share: float, seed: int
) -> None:
    grid = ShardGrid(num_views=2, num_samples=num_samples, shard_rows=shard_rows)
    num_rows = max(round(share * num_samples), 1)

    shards = draw_shards(np.random.default_rng(seed), grid=grid, num_rows=num_rows)

    whole = num_rows // shard_rows
    assert len(shards) >= min(8, grid.parts_per_view, max(whole, 1))
    assert {shard.view for shard in shards} == {0}
    assert [shard.part for shard in shards] == list(range(shards[0].part, shards[0].part + len(shards)))
    assert shards[-1].stop <= max(num_rows, min(shard_rows, num_samples))


def test_block_shuffled_rows_are_all_rows_of_the_shards_block_by_block(generator: Generator) -> None:
    grid = ShardGrid(num_views=1, num_samples=1000, shard_rows=300)

    rows = np.concatenate(block_shuffled(generator, grid))

    assert sorted(rows) == list(range(1000))
    assert rows.tolist() != list(range(1000))
    changes = np.flatnonzero(np.diff(rows // 300))
    assert len(changes) == 3


def test_shards_in_order_are_their_rows_as_they_lie() -> None:
    grid = ShardGrid(num_views=1, num_samples=1000, shard_rows=300)

    batches = shards_in_order(list(grid)[1:])

    assert np.concatenate(batches).tolist() == list(range(300, 1000))
    assert [len(batch) for batch in batches] == [256, 256, 188]
