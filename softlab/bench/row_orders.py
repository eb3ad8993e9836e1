"""In which order rows are asked for while reading is measured; a fresh draw for each turn, so that no turn finds its
rows in the processor's own caches."""

# Shape letters: B rows in a batch.

from collections.abc import Iterable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from softlab.shards import Shard, ShardGrid

Numbers = NDArray[np.int64]

BATCH = 256
MAX_ROWS = 1600 * BATCH
MAX_BYTES = 256 << 20
"""Of the rows that one turn reads from memory: few milliseconds of them are too few, a second is enough."""

MAX_REPEATS = 64
MIN_SHARDS, MAX_SHARDS = 8, 64
MIN_SHARD_ROWS = 1 << 17
"""In one turn over compressed shards, as long as those are not too many."""


def rows_of_a_turn(row_bytes: int, *, num_rows: int) -> int:
    """Whole batches, at least one; each row of a small store some times."""
    return max(min(MAX_BYTES // row_bytes, MAX_ROWS, MAX_REPEATS * num_rows) // BATCH, 1) * BATCH


def random_rows(generator: Generator, *, num_rows: int, count: int) -> list[Numbers]:
    """Batches of any rows below `num_rows`, with repeats."""
    return list(generator.integers(0, num_rows, (count // BATCH, BATCH)))


def rows_in_order(generator: Generator, *, num_rows: int, count: int) -> list[Numbers]:
    """Batches of successive rows, from any row on; at most all of them."""
    count = min(count, num_rows)
    return _batches(int(generator.integers(num_rows - count + 1)) + np.arange(count))


def draw_shards(generator: Generator, *, grid: ShardGrid, num_rows: int) -> list[Shard]:
    """Successive shards of the first view that hold only rows below `num_rows`, from any of them on: at least 8, and
    more where they are small; of a small store, all."""
    parts = max(num_rows // grid.shard_rows, 1) if num_rows < grid.num_samples else grid.parts_per_view
    count = min(parts, max(MIN_SHARDS, min(MAX_SHARDS, -(-MIN_SHARD_ROWS // grid.shard_rows))))
    start = int(generator.integers(parts - count + 1))
    return [grid.shard(0, part) for part in range(start, start + count)]


def block_shuffled(generator: Generator, shards: Iterable[Shard]) -> list[Numbers]:
    """Batches of all rows of some shards: the shards in random order, and the rows of each."""
    shuffled = [shard.start + generator.permutation(shard.num_rows) for shard in shards]
    generator.shuffle(shuffled)
    return _batches(np.concatenate(shuffled))


def shards_in_order(shards: Iterable[Shard]) -> list[Numbers]:
    """Batches of all rows of some shards, as they lie."""
    return _batches(np.concatenate([np.arange(shard.start, shard.stop) for shard in shards]))


def _batches(numbers: Numbers) -> list[Numbers]:
    return [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]
