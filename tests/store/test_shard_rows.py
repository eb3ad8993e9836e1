import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import DamagedStore
from softlab.indices import StoreIndex
from softlab.shards import Shard, ShardGrid
from softlab.store import shard_rows
from softlab.store.rows import Rows
from softlab.store.shard_rows import ShardRows

GRID = ShardGrid(num_views=2, num_samples=11, shard_rows=4)
ROWS = np.random.default_rng(0).integers(0, 256, size=(11, 24), dtype=np.uint8)


class Shards:
    """Decodes shards of `ROWS`, and remembers which."""

    def __init__(self) -> None:
        self.decoded: list[tuple[int, int]] = []
        self.broken: int | None = None

    def decode(self, shard: Shard, rows: Rows) -> None:
        self.decoded.append((shard.view, shard.part))
        if shard.part == self.broken:
            raise DamagedStore("broken")
        rows[:] = ROWS[shard.start : shard.stop]


def open_rows(shards: Shards) -> ShardRows:
    return ShardRows(grid=GRID, row_bytes=24, decode=shards.decode, view=1)


@given(st.lists(st.lists(st.integers(0, 10), max_size=8), max_size=4))
def test_rows_are_given_in_the_order_asked_for(batches: list[list[int]]) -> None:
    rows = open_rows(Shards())

    for samples in batches:
        np.testing.assert_array_equal(rows.take(StoreIndex(np.array(samples, dtype=np.int64))), ROWS[samples])


def test_a_shard_in_memory_is_not_decoded_again() -> None:
    shards = Shards()
    rows = open_rows(shards)

    rows.take(StoreIndex(np.array([9, 0])))
    rows.take(StoreIndex(np.array([1, 10, 9])))

    assert shards.decoded == [(1, 0), (1, 2)]


def test_the_shard_that_was_decoded_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_rows, "DECODED_BYTES", 2 * 4 * 24)
    shards = Shards()
    rows = open_rows(shards)

    for samples in ([0], [4], [1], [8], [5], [4, 0], [9]):  # shards 0, 1, 0, 2 (forgets 0), 1, 1 and 0 (forgets 2), 2
        rows.take(StoreIndex(np.array(samples)))

    assert [part for _, part in shards.decoded] == [0, 1, 2, 0, 2]


def test_a_shard_that_could_not_be_decoded_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_rows, "DECODED_BYTES", 2 * 4 * 24)
    shards = Shards()
    rows = open_rows(shards)
    rows.take(StoreIndex(np.array([0, 4])))

    shards.broken = 2
    for _ in range(3):
        with pytest.raises(DamagedStore):
            rows.take(StoreIndex(np.array([10])))
    shards.broken = None

    np.testing.assert_array_equal(rows.take(StoreIndex(np.array([10, 0, 4]))), ROWS[[10, 0, 4]])


def test_one_shard_is_kept_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_rows, "DECODED_BYTES", 0)
    shards = Shards()
    rows = open_rows(shards)

    taken = rows.take(StoreIndex(np.array([0, 4, 10])))
    rows.take(StoreIndex(np.array([9])))

    np.testing.assert_array_equal(taken, ROWS[[0, 4, 10]])
    assert [part for _, part in shards.decoded] == [0, 1, 2]
