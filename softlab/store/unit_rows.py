"""Where the rows of a sample are, in an output that has a row for each unit of a sample (a position, a token, a frame).

    samples              0    1    2    3    4    5
    rows of each         2    0    3    1    4    1
    first row            0    2    2    5    6   10      `first_N1`, with the number of all rows, 11, at its end

A shard holds whole samples. With three samples a shard, the first one has the rows 0..4 and the second 5..10. In a
store's arrays each shard has room for the same number of rows, and what is left of it is fill. In memory, and in the
row cache, rows lie one behind the other without fill.
"""

# Shape letters: N samples of the store, B samples asked for, R rows of them all.

import numpy as np
from numpy.typing import NDArray

from softlab.indices import StoreIndex
from softlab.shards import Shard
from softlab.store.rows import Rows


class UnitRows:
    """Of one store; the same in all its views."""

    def __init__(self, rows_N: NDArray[np.int64]) -> None:
        """`rows_N` is how many rows each sample has; some may have none."""
        self.rows_N = rows_N
        self.first_N1 = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(rows_N, dtype=np.int64)])

    @property
    def num_rows(self) -> int:
        """Of a view."""
        return int(self.first_N1[-1])

    def span(self, shard: Shard) -> tuple[int, int]:
        """The first row of a shard, and the first one behind it."""
        return int(self.first_N1[shard.start]), int(self.first_N1[shard.stop])

    def in_shard(self, shard: Shard) -> int:
        """How many rows a shard has."""
        first, stop = self.span(shard)
        return stop - first

    def firsts(self, store_B: StoreIndex) -> NDArray[np.int64]:
        """The first row of each of B samples."""
        firsts_B: NDArray[np.int64] = self.first_N1[store_B]
        return firsts_B

    def counts(self, store_B: StoreIndex) -> NDArray[np.int64]:
        """Rows of each of B samples."""
        counts_B: NDArray[np.int64] = self.rows_N[store_B]
        return counts_B


def gather(rows: Rows, firsts_B: NDArray[np.int64], counts_B: NDArray[np.int64]) -> Rows:
    """The rows of B samples, one sample behind the other: each is one stretch of memory, and so one copy."""
    gathered = np.empty((int(counts_B.sum()), rows.shape[1]), dtype=np.uint8)
    at = 0
    for first, count in zip(firsts_B.tolist(), counts_B.tolist(), strict=True):
        gathered[at : at + count] = rows[first : first + count]
        at += count
    return gathered


def places_of_rows(counts_B: NDArray[np.int64], chosen: NDArray[np.int64] | slice) -> NDArray[np.int64]:
    """Where the rows of chosen samples stand among the rows of all B, one sample behind the other."""
    first_B = np.cumsum(counts_B) - counts_B
    counts = counts_B[chosen]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    places: NDArray[np.int64] = np.repeat(first_B[chosen], counts) + within
    return places
