"""The geometry of a store: which rows make a shard, which arrays a row has, how both are cut into chunks.

A shard is one contiguous run of samples of one view. It is the unit of commit, checksum, resume and transfer. All
arrays of a store are cut at the same rows, so that one shard is one unit of work.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from softlab.errors import InvalidOption
from softlab.indices import StoreIndex

Dtype = Literal["int8", "uint8", "uint16", "uint32", "float16", "float32"]

SHARD_BYTES = 16 << 20
"""Aimed at when the user names no size: what a crash may cost."""

MAX_SHARD_ROWS = 1 << 16
CHUNK_BYTES = 384 << 10
MAX_CHUNK_ROWS = 4096
MAX_FIELD_BYTES = 1 << 30
"""Of one array in one shard: more is refused before anything is allocated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Samples start..stop-1 in one view."""

    view: int
    part: int
    """Counts the shards of a view from 0."""

    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Its samples, and so the rows of an output without units."""
        return self.stop - self.start

    @property
    def name(self) -> str:
        return f"view-{self.view:05d}-part-{self.part:05d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardGrid:
    """All shards of a store."""

    num_views: int
    num_samples: int
    shard_rows: int

    @property
    def parts_per_view(self) -> int:
        return -(-self.num_samples // self.shard_rows)

    @property
    def num_shards(self) -> int:
        """As `len`, which fails on the absurd sizes that a broken manifest may claim."""
        return self.num_views * self.parts_per_view

    def __len__(self) -> int:
        return self.num_shards

    def __iter__(self) -> Iterator[Shard]:
        return (self.shard(view, part) for view in range(self.num_views) for part in range(self.parts_per_view))

    def extents(self) -> Iterator[tuple[int, int, int]]:
        """View, start and stop of each shard: quicker than to make every one of 100,000."""
        for view in range(self.num_views):
            for start in range(0, self.num_samples, self.shard_rows):
                yield view, start, min(start + self.shard_rows, self.num_samples)

    def shard(self, view: int, part: int) -> Shard:
        start = part * self.shard_rows
        return Shard(view=view, part=part, start=start, stop=min(start + self.shard_rows, self.num_samples))

    def shard_at(self, view: int, sample: int) -> Shard:
        """The one that holds a sample."""
        return self.shard(view, sample // self.shard_rows)

    def shards_of(self, store_B: StoreIndex, *, view: int) -> list[Shard]:
        """Those of one view that hold some samples, in ascending order."""
        return [self.shard(view, part) for part in np.unique(store_B // self.shard_rows).tolist()]


def row_bytes(dtype: Dtype, row_shape: Sequence[int]) -> int:
    """Of one row of one array, before compression."""
    return np.dtype(dtype).itemsize * math.prod(row_shape)


def choose_shard_rows(bytes_per_row: int, *, num_samples: int) -> int:
    """8 to 16 MiB of uncompressed rows, or one shard for all samples where they are fewer.

    Always a power of two, because chunks divide a shard: one of 10,007 rows, a prime, would be cut into chunks of one
    row, which took 280 times as long to write. A power of two also lets each shard begin on a page of the row cache.
    """
    most = min(max(SHARD_BYTES // bytes_per_row, 1), MAX_SHARD_ROWS)
    return min(1 << (most.bit_length() - 1), 1 << (num_samples - 1).bit_length())


def choose_chunk_rows(bytes_per_row: int, *, shard_rows: int, most_rows: int = MAX_CHUNK_ROWS) -> int:
    """The largest divisor of `shard_rows` whose chunk is at most 384 KiB, and 4,096 rows or `most_rows`.

    Raises InvalidOption where that would be less than an eighth of what it may be.
    """
    most = min(max(CHUNK_BYTES // bytes_per_row, 1), most_rows, shard_rows)
    chosen = next(rows for rows in range(most, 0, -1) if shard_rows % rows == 0)
    if 8 * chosen < most:
        rounded = -(-shard_rows // 512) * 512  # an eighth of the most that a chunk holds
        raise InvalidOption(
            f"shard_rows = {shard_rows}: can't be cut into even chunks of up to {most:,} rows. "
            f"Choose a rounder `dump.shard_rows`, such as {rounded}."
        )
    return chosen


def check_shard_rows(shard_rows: int, *, largest_row_bytes: int) -> None:
    """Raises InvalidOption for a shard without rows, or one with an array of over 1 GiB."""
    most = MAX_FIELD_BYTES // largest_row_bytes
    if not 1 <= shard_rows <= most:
        raise InvalidOption(
            f"shard_rows = {shard_rows}: expected 1 to {most:,}, so that no array of a shard is over 1 GiB. "
            f"Choose `dump.shard_rows` in that range, or leave it out."
        )
