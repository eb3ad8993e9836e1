"""Reads of stored labels, against one np.take on a memory-mapped file of the same packed rows."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from softlab.store.cache import CacheOptions
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from softlab.store.rows import layout_of
from tests.benchmarks.interleave import rates
from tests.benchmarks.report import Report
from tests.benchmarks.stores import write_synthetic_store

BATCH = 256
BATCHES = 400


def bench_reading(report: Report, folder: Path, *, num_samples: int, rounds: int) -> None:
    """K = 16 of 1,000 classes, float16, both formats."""
    rows = []
    for form in get_args(FormatName):
        path = write_synthetic_store(folder / f"reading.{form}", form=form, num_samples=num_samples)
        cached = open_store(path, cache=CacheOptions(dir=folder / "cache"))
        streamed = open_store(path, cache=CacheOptions(max_bytes=0))
        take = _plain_take(folder / "plain.npy", cached)
        order = np.random.default_rng(0).integers(0, num_samples, (BATCHES, BATCH))
        blocks = _block_shuffled(num_samples, shard_rows=cached.manifest.storage.shard_rows)[:BATCHES]
        found = rates(
            {
                "limit": partial(_read, take, order),
                "packed": partial(_read, cached.read_packed, order),
                "labels": partial(_read, cached.read, order),
                "block_packed": partial(_read, streamed.read_packed, blocks),
                "block": partial(_read, streamed.read, blocks),
            },
            rounds=rounds,
        )
        rows.append(
            [form, *(f"{found[name] / found['limit']:.2f}" for name in ["packed", "labels", "block_packed", "block"])]
        )
    report.section(
        "Reading",
        f"Batches of {BATCH} rows, K = 16 of 1,000 classes, {num_samples:,} rows; rate relative to one np.take on "
        "a memory-mapped file of the same packed rows. Random batches come from the row cache, block-shuffled ones "
        "straight from compressed shards; packed, as they are handed to another process, and as tensors ready for a "
        "loss.",
        ["format", "random, packed", "random, tensors", "compressed, packed", "compressed, tensors"],
        rows,
    )


def _read(read: Callable[[NDArray[np.int64]], object], order: NDArray[np.int64]) -> int:
    for numbers in order:
        read(numbers)
    return int(order.size)


def _plain_take(path: Path, store: Store) -> Callable[[NDArray[np.int64]], object]:
    row_bytes = layout_of(store.manifest.storage.fields_of("labels")).row_bytes
    np.save(path, np.zeros((store.num_samples, row_bytes), dtype=np.uint8))
    rows = np.load(path, mmap_mode="r")
    return lambda numbers: rows.take(numbers, axis=0)


def _block_shuffled(num_samples: int, *, shard_rows: int) -> NDArray[np.int64]:
    """Shards in random order, rows shuffled within each."""
    generator = np.random.default_rng(1)
    starts = generator.permutation(np.arange(0, num_samples, shard_rows))
    order = [start + generator.permutation(min(shard_rows, num_samples - start)) for start in starts]
    joined = np.concatenate(order)
    return joined[: len(joined) // BATCH * BATCH].reshape(-1, BATCH)
