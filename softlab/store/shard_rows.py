"""Rows straight from compressed shards, for stores that the row cache may not hold: a few decoded shards in memory."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from softlab.shards import Shard, ShardGrid
from softlab.store.rows import Rows

DECODED_BYTES = 256 << 20
"""Of decoded shards kept in memory by one reader; at least one shard is kept whatever its size."""


class ShardRows:
    """All rows of one view and group of a store; cheap only if successive reads fall into few shards."""

    def __init__(self, *, grid: ShardGrid, row_bytes: int, decode: Callable[[Shard], Rows], view: int) -> None:
        self._grid, self._row_bytes, self._decode, self._view = grid, row_bytes, decode, view
        self._decoded: OrderedDict[int, Rows] = OrderedDict()

    def take(self, samples: NDArray[np.int64]) -> Rows:
        """A copy of some rows, in the order asked for."""
        rows = np.empty((len(samples), self._row_bytes), dtype=np.uint8)
        parts = samples // self._grid.shard_rows
        for part in np.unique(parts):
            chosen = np.flatnonzero(parts == part)
            rows[chosen] = self._shard(int(part)).take(samples[chosen] - part * self._grid.shard_rows, axis=0)
        return rows

    def _shard(self, part: int) -> Rows:
        if part not in self._decoded:
            self._decoded[part] = self._decode(self._grid.shard(self._view, part))
            self._forget_oldest()
        self._decoded.move_to_end(part)
        return self._decoded[part]

    def _forget_oldest(self) -> None:
        while len(self._decoded) > 1 and sum(rows.nbytes for rows in self._decoded.values()) > DECODED_BYTES:
            self._decoded.popitem(last=False)
