"""Rows straight from compressed shards, for stores that the row cache may not hold: a few decoded shards in memory."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from softlab.indices import StoreIndex
from softlab.shards import Shard, ShardGrid
from softlab.store.rows import Rows
from softlab.store.unit_rows import UnitRows, gather, places_of_rows

DECODED_SHARDS = 16
DECODED_BYTES = 256 << 20
"""Of decoded shards kept in memory for one view and group; at least one shard is kept whatever its size."""

FAR_BELOW = -(1 << 62)
"""As an offset: no row is there."""


class ShardRows:
    """All rows of one view and group of a store; cheap only if successive reads fall into few shards."""

    def __init__(
        self,
        *,
        grid: ShardGrid,
        row_bytes: int,
        decode: Callable[[Shard, Rows], None],
        view: int,
        units: UnitRows | None = None,
    ) -> None:
        """`decode` fills the rows of one shard; `units` says which rows a sample has where it hasn't just one."""
        self._grid, self._row_bytes, self._decode, self._view, self._units = grid, row_bytes, decode, view, units
        self._slot_rows = grid.shard_rows if units is None else _most_rows(units, grid, view=view)
        held = max(DECODED_BYTES // (self._slot_rows * row_bytes), 1)
        self._free = list(range(min(held, DECODED_SHARDS, grid.parts_per_view)))
        self._rows = np.empty((len(self._free) * self._slot_rows, row_bytes), dtype=np.uint8)
        is_power_of_two = grid.shard_rows & (grid.shard_rows - 1) == 0  # then a shift does, at a third of the time
        self._shift = grid.shard_rows.bit_length() - 1 if is_power_of_two else 0
        self._slots: OrderedDict[int, int] = OrderedDict()
        """Which stretch of `_rows` holds a shard, by its part; the oldest first."""

        self._offsets = np.full(grid.parts_per_view, FAR_BELOW)
        """How far the rows of a shard lie in memory from where they would lie if all shards were there, by part."""

    @property
    def nbytes(self) -> int:
        """Of memory, when it is full."""
        return self._rows.nbytes

    def take(self, store_B: StoreIndex) -> Rows:
        """A copy of the rows of some samples, in the order asked for."""
        parts = store_B >> self._shift if self._shift else store_B // self._grid.shard_rows
        firsts_B = store_B if self._units is None else self._units.firsts(store_B)
        places = firsts_B + self._offsets[parts]
        if len(places) and np.minimum.reduce(places) < 0:
            wanted = np.unique(parts)
            if len(wanted) > len(self._slots) + len(self._free):
                return self._take_shard_by_shard(store_B, parts, wanted)
            self._hold(wanted)
            places = firsts_B + self._offsets[parts]
        if self._units is not None:
            return gather(self._rows, places, self._units.counts(store_B))
        rows: Rows = self._rows.take(places, axis=0)
        return rows

    def missing(self, store_B: StoreIndex) -> list[Shard]:
        """The shards of some rows that are not in memory."""
        shards = self._grid.shards_of(store_B, view=self._view)
        return [each for each in shards if each.part not in self._slots]

    def _take_shard_by_shard(self, store_B: StoreIndex, parts: NDArray[np.int64], wanted: NDArray[np.int64]) -> Rows:
        counts_B = np.ones(len(store_B), dtype=np.int64) if self._units is None else self._units.counts(store_B)
        rows = np.empty((int(counts_B.sum()), self._row_bytes), dtype=np.uint8)
        for part in wanted:
            chosen = np.flatnonzero(parts == part)
            rows[places_of_rows(counts_B, chosen)] = self.take(StoreIndex(store_B[chosen]))
        return rows

    def _hold(self, wanted: NDArray[np.int64]) -> None:
        """Decode those of some shards that aren't in memory, in place of the oldest of the others."""
        for part in wanted.tolist():
            if part in self._slots:
                self._slots.move_to_end(part)
        for part in wanted.tolist():
            if part not in self._slots:
                slot = self._free.pop() if self._free else self._forget_oldest()
                try:
                    self._fill(slot, self._grid.shard(self._view, part))
                except BaseException:
                    self._free.append(slot)
                    raise
                self._slots[part] = slot
                self._offsets[part] = slot * self._slot_rows - self._first_row(part)

    def _fill(self, slot: int, shard: Shard) -> None:
        first = slot * self._slot_rows
        count = shard.num_rows if self._units is None else self._units.in_shard(shard)
        self._decode(shard, self._rows[first : first + count])

    def _first_row(self, part: int) -> int:
        shard = self._grid.shard(self._view, part)
        return shard.start if self._units is None else self._units.span(shard)[0]

    def _forget_oldest(self) -> int:
        part, slot = self._slots.popitem(last=False)
        self._offsets[part] = FAR_BELOW
        return slot


def _most_rows(units: UnitRows, grid: ShardGrid, *, view: int) -> int:
    """Of the shard that has most; at least one, as memory of nothing has no slots."""
    return max(1, *(units.in_shard(grid.shard(view, part)) for part in range(grid.parts_per_view)))
