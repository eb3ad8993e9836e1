"""One timed turn of reading a store: which rows it asks for, in which order, and the reading itself.

Rows are drawn anew for each turn, so that no turn finds its rows in the processor's own caches.
"""

# Shape letters: B rows in a batch, N rows of a turn.

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from softlab.bench.machine import forget_pages
from softlab.shards import Shard, ShardGrid
from softlab.store.reader import Store

StoreIndices = NDArray[np.int64]
"""Indices of samples in the store."""

Read = Callable[[StoreIndices], object]

BATCH = 256
MAX_ROWS = 1600 * BATCH
MAX_BYTES = 256 << 20
"""Of the rows that one turn reads from memory: enough for a good part of a second."""

MAX_REPEATS = 64
MIN_SHARDS, MAX_SHARDS = 8, 64
MIN_SHARD_ROWS = 1 << 17
"""A turn over compressed shards reads at least this many rows, unless that takes more than MAX_SHARDS."""


class Turn(Protocol):
    """Something that is timed again and again."""

    def prepare(self) -> None:
        """Open what is read and draw the rows. Not timed."""

    def run(self) -> int:
        """Read, and return how many rows were read. Timed."""


@dataclass(kw_only=True, slots=True)
class BatchReads:
    """A turn that reads batches of rows."""

    open: Callable[[], Read]
    draw: Callable[[Generator], list[StoreIndices]]
    _generator: Generator = field(default_factory=lambda: np.random.default_rng(0))
    _read: Read = len
    _batches: list[StoreIndices] = field(default_factory=list)

    def prepare(self) -> None:
        self._read, self._batches = self.open(), self.draw(self._generator)

    def run(self) -> int:
        for store_B in self._batches:
            self._read(store_B)
        return sum(map(len, self._batches))


@dataclass(kw_only=True, slots=True)
class FirstTouch:
    """A turn that fills a row cache. It reads one row of each shard, which decodes all rows of the shard."""

    store: Store
    open: Callable[[], Read]
    draw: Callable[[Generator], list[Shard]]
    _generator: Generator = field(default_factory=lambda: np.random.default_rng(0))
    _read: Read = len
    _shards: list[Shard] = field(default_factory=list)

    def prepare(self) -> None:
        self._read, self._shards = self.open(), self.draw(self._generator)
        files = itertools.chain.from_iterable(self.store.shard_record(shard).files for shard in self._shards)
        root = self.store.path
        assert isinstance(root, Path), "only stores on a disk are measured"
        forget_pages(root / file.path for file in files)

    def run(self) -> int:
        for shard in self._shards:
            self._read(np.array([shard.start]))
        return sum(shard.num_rows for shard in self._shards)


def rows_of_a_turn(row_bytes: int, *, num_rows: int) -> int:
    """How many rows a turn reads from memory: whole batches, at least one. Each row of a small store is read up to
    MAX_REPEATS times."""
    return max(min(MAX_BYTES // row_bytes, MAX_ROWS, MAX_REPEATS * num_rows) // BATCH, 1) * BATCH


def random_rows(generator: Generator, *, num_rows: int, count: int) -> list[StoreIndices]:
    """Batches of random rows below `num_rows`, with repeats."""
    return list(generator.integers(0, num_rows, (count // BATCH, BATCH)))


def rows_in_order(generator: Generator, *, num_rows: int, count: int) -> list[StoreIndices]:
    """Batches of successive rows from a random row on. If `count` is more than `num_rows`, each row once."""
    count = min(count, num_rows)
    return _split(int(generator.integers(num_rows - count + 1)) + np.arange(count))


def draw_shards(generator: Generator, *, grid: ShardGrid, num_rows: int) -> list[Shard]:
    """Successive shards of the first view from a random one on, with no row that is `num_rows` or above.

    At least MIN_SHARDS, and more if they are small; of a small store, all. If the first shard alone has more than
    `num_rows`, it is taken all the same.
    """
    parts = max(num_rows // grid.shard_rows, 1) if num_rows < grid.num_samples else grid.parts_per_view
    count = min(parts, max(MIN_SHARDS, min(MAX_SHARDS, -(-MIN_SHARD_ROWS // grid.shard_rows))))
    start = int(generator.integers(parts - count + 1))
    return [grid.shard(0, part) for part in range(start, start + count)]


def block_shuffled(generator: Generator, shards: Iterable[Shard]) -> list[StoreIndices]:
    """Batches of all rows of some shards: the shards in random order, and the rows within each in random order."""
    shuffled = [shard.start + generator.permutation(shard.num_rows) for shard in shards]
    generator.shuffle(shuffled)
    return _split(np.concatenate(shuffled))


def shards_in_order(shards: Iterable[Shard]) -> list[StoreIndices]:
    """Batches of all rows of some shards, in the order in which they are stored."""
    return _split(np.concatenate([np.arange(shard.start, shard.stop) for shard in shards]))


def _split(store_N: StoreIndices) -> list[StoreIndices]:
    return [store_N[start : start + BATCH] for start in range(0, len(store_N), BATCH)]
