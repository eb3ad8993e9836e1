"""One turn of reading a store: what is opened and drawn before the clock starts, and what is read under it."""

# Shape letters: B rows in a batch.

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.random import Generator

from softlab.bench.page_cache import forget_pages
from softlab.bench.row_orders import Numbers
from softlab.shards import Shard
from softlab.store.reader import Store

Read = Callable[[Numbers], object]


class Turn(Protocol):
    """Something that is timed again and again."""

    def prepare(self) -> None:
        """Not timed."""

    def run(self) -> int:
        """How many rows were read."""


@dataclass(kw_only=True, slots=True)
class Batches:
    """One way of reading batches of rows."""

    open: Callable[[], Read]
    draw: Callable[[Generator], list[Numbers]]
    _generator: Generator = field(default_factory=lambda: np.random.default_rng(0))
    _read: Read = len
    _batches: list[Numbers] = field(default_factory=list)

    def prepare(self) -> None:
        self._read, self._batches = self.open(), self.draw(self._generator)

    def run(self) -> int:
        for numbers_B in self._batches:
            self._read(numbers_B)
        return sum(map(len, self._batches))


@dataclass(kw_only=True, slots=True)
class FirstTouch:
    """Fills a row cache: one row of a shard decodes all of them."""

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
