"""Rows straight from compressed shards, for stores that the row cache may not hold: a few decoded shards in memory."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from softlab.shards import Shard, ShardGrid
from softlab.store.rows import Rows

DECODED_SHARDS = 16
DECODED_BYTES = 256 << 20
"""Of decoded shards kept in memory for one view and group; at least one shard is kept whatever its size."""

FAR_BELOW = -(1 << 62)
"""As an offset: no row is there."""


class ShardRows:
    """All rows of one view and group of a store; cheap only if successive reads fall into few shards."""

    def __init__(self, *, grid: ShardGrid, row_bytes: int, decode: Callable[[Shard, Rows], None], view: int) -> None:
        """`decode` fills the rows of one shard."""
        self._grid, self._row_bytes, self._decode, self._view = grid, row_bytes, decode, view
        held = max(DECODED_BYTES // (grid.shard_rows * row_bytes), 1)
        self._free = list(range(min(held, DECODED_SHARDS, grid.parts_per_view)))
        self._rows = np.empty((len(self._free) * grid.shard_rows, row_bytes), dtype=np.uint8)
        is_power_of_two = grid.shard_rows & (grid.shard_rows - 1) == 0  # then a shift does, at a third of the time
        self._shift = grid.shard_rows.bit_length() - 1 if is_power_of_two else 0
        self._slots: OrderedDict[int, int] = OrderedDict()
        """Which stretch of `_rows` holds a shard, by its part; the oldest first."""

        self._offsets = np.full(grid.parts_per_view, FAR_BELOW)
        """What makes a sample's number the number of its row in memory, by part."""

    @property
    def nbytes(self) -> int:
        """Of memory, when it is full."""
        return self._rows.nbytes

    def take(self, samples: NDArray[np.int64]) -> Rows:
        """A copy of some rows, in the order asked for."""
        parts = samples >> self._shift if self._shift else samples // self._grid.shard_rows
        places = samples + self._offsets[parts]
        if len(places) and np.minimum.reduce(places) < 0:
            wanted = np.unique(parts)
            if len(wanted) > len(self._slots) + len(self._free):
                return self._take_shard_by_shard(samples, parts, wanted)
            self._hold(wanted)
            places = samples + self._offsets[parts]
        rows: Rows = self._rows.take(places, axis=0)
        return rows

    def missing(self, samples: NDArray[np.int64]) -> list[Shard]:
        """The shards of some rows that are not in memory."""
        shards = self._grid.shards_of(samples, view=self._view)
        return [each for each in shards if each.part not in self._slots]

    def _take_shard_by_shard(
        self, samples: NDArray[np.int64], parts: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> Rows:
        rows = np.empty((len(samples), self._row_bytes), dtype=np.uint8)
        for part in wanted:
            chosen = np.flatnonzero(parts == part)
            rows[chosen] = self.take(samples[chosen])
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
                self._offsets[part] = (slot - part) * self._grid.shard_rows

    def _fill(self, slot: int, shard: Shard) -> None:
        first = slot * self._grid.shard_rows
        self._decode(shard, self._rows[first : first + shard.num_rows])

    def _forget_oldest(self) -> int:
        part, slot = self._slots.popitem(last=False)
        self._offsets[part] = FAR_BELOW
        return slot
