import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.shards import (
    CHUNK_BYTES,
    MAX_CHUNK_ROWS,
    MAX_FIELD_BYTES,
    MAX_SHARD_ROWS,
    SHARD_BYTES,
    Shard,
    ShardGrid,
    check_shard_rows,
    choose_chunk_rows,
    choose_shard_rows,
    row_bytes,
)

grids = st.builds(ShardGrid, num_views=st.integers(1, 4), num_samples=st.integers(1, 60), shard_rows=st.integers(1, 70))
bytes_per_row = st.integers(1, 2 * SHARD_BYTES)


@given(grids)
def test_a_grid_covers_every_row_once_and_in_order(grid: ShardGrid) -> None:
    rows = [(shard.view, sample) for shard in grid for sample in range(shard.start, shard.stop)]

    assert rows == [(view, sample) for view in range(grid.num_views) for sample in range(grid.num_samples)]


@given(grids)
def test_extents_are_those_of_the_shards(grid: ShardGrid) -> None:
    assert list(grid.extents()) == [(shard.view, shard.start, shard.stop) for shard in grid]


@given(grids)
def test_only_the_last_shard_of_a_view_is_short(grid: ShardGrid) -> None:
    shards = list(grid)

    assert len(shards) == len(grid) == grid.num_shards
    assert all(shard.num_rows == grid.shard_rows for shard in shards if shard.part < grid.parts_per_view - 1)
    assert all(1 <= shard.num_rows <= grid.shard_rows for shard in shards)


@given(grids, st.data())
def test_shard_at_finds_the_shard_that_holds_a_sample(grid: ShardGrid, data: st.DataObject) -> None:
    view, sample = data.draw(st.integers(0, grid.num_views - 1)), data.draw(st.integers(0, grid.num_samples - 1))

    (holder,) = [shard for shard in grid if shard.view == view and shard.start <= sample < shard.stop]
    assert grid.shard_at(view, sample) == holder


@given(grids)
def test_shard_names_differ_and_sort_in_row_order(grid: ShardGrid) -> None:
    names = [shard.name for shard in grid]

    assert names == sorted(set(names))


def test_a_shard_is_named_by_view_and_part() -> None:
    assert Shard(view=1, part=2, start=200, stop=300).name == "view-00001-part-00002"


def test_the_number_of_shards_may_be_absurd() -> None:
    grid = ShardGrid(num_views=1 << 48, num_samples=1 << 48, shard_rows=1)

    assert grid.num_shards == 1 << 96


def test_row_bytes_multiply_out() -> None:
    assert row_bytes("float16", (3, 5)) == 30
    assert row_bytes("float32", ()) == 4
    assert row_bytes("uint8", (16,)) == 16


@given(bytes_per_row, st.integers(1, 3_000_000))
def test_a_default_shard_is_bounded_and_no_longer_than_it_need_be(bytes_per_row: int, num_samples: int) -> None:
    rows = choose_shard_rows(bytes_per_row, num_samples=num_samples)

    assert 1 <= rows <= MAX_SHARD_ROWS
    assert rows == 1 or rows * bytes_per_row <= SHARD_BYTES
    assert rows < 2 * num_samples


@given(bytes_per_row, st.integers(1, 3_000_000))
def test_a_default_shard_is_no_smaller_than_half_of_what_it_may_be(bytes_per_row: int, num_samples: int) -> None:
    rows = choose_shard_rows(bytes_per_row, num_samples=num_samples)

    assert rows >= num_samples or 2 * rows > MAX_SHARD_ROWS or 2 * rows * bytes_per_row > SHARD_BYTES


@given(bytes_per_row, st.integers(1, 5000))
def test_chunks_divide_their_shard_and_are_bounded(bytes_per_row: int, shard_rows: int) -> None:
    rows = choose_chunk_rows(bytes_per_row, shard_rows=512 * shard_rows)

    assert 512 * shard_rows % rows == 0
    assert 1 <= rows <= MAX_CHUNK_ROWS
    assert rows == 1 or rows * bytes_per_row <= CHUNK_BYTES


def test_a_shard_that_only_tiny_chunks_divide_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"Choose a rounder `dump\.shard_rows`, such as 5120"):
        choose_chunk_rows(64, shard_rows=4801)


@given(bytes_per_row, st.integers(1, 200_000))
def test_a_default_shard_has_chunks_of_a_good_size(bytes_per_row: int, num_samples: int) -> None:
    """Whatever the number of samples: a prime number of rows could only be cut into chunks of one."""
    shard_rows = choose_shard_rows(bytes_per_row, num_samples=num_samples)

    rows = choose_chunk_rows(bytes_per_row, shard_rows=shard_rows)

    assert rows == shard_rows or 2 * rows > MAX_CHUNK_ROWS or 2 * rows * bytes_per_row > CHUNK_BYTES


@pytest.mark.parametrize(
    ("shard_rows", "largest_row_bytes", "most"),
    [(0, 64, "16,777,216"), (-1, 64, "16,777,216"), (MAX_FIELD_BYTES // 64 + 1, 64, "16,777,216"), (2, 1 << 30, "1")],
)
def test_a_shard_without_rows_or_too_large_is_refused(shard_rows: int, largest_row_bytes: int, most: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(f"expected 1 to {most}")) as refused:
        check_shard_rows(shard_rows, largest_row_bytes=largest_row_bytes)

    assert "Choose `dump.shard_rows` in that range, or leave it out." in str(refused.value)


@given(st.integers(1, MAX_FIELD_BYTES), st.data())
def test_a_shard_within_the_bounds_is_accepted(largest_row_bytes: int, data: st.DataObject) -> None:
    check_shard_rows(
        data.draw(st.integers(1, MAX_FIELD_BYTES // largest_row_bytes)), largest_row_bytes=largest_row_bytes
    )
