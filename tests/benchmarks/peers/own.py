"""softlab's own ways to read labels, and the limit: one np.take on a memory-mapped file of packed rows."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from softlab.bench.read_turns import StoreIndices as Numbers
from softlab.bench.read_turns import block_shuffled
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.store.rows import Rows
from tests.benchmarks.peers.peer import Given, Peer, Reader, in_sequence


def prepare_take(folder: Path, given: Given) -> Reader:
    path = folder / "rows.npy"
    np.save(path, given.rows_NR)
    rows_NR = np.asarray(np.load(path, mmap_mode="r"))  # take of a np.memmap is slower than of the array below it

    def take(source_B: Numbers) -> Rows:
        taken: Rows = rows_NR.take(source_B, axis=0)
        return taken

    return Reader(files=(path,), random=take, sequential=lambda: map(take, in_sequence(len(rows_NR))))


def prepare_cached(folder: Path, given: Given) -> Reader:
    store = open_store(given.zarr_store, cache=CacheOptions(dir=folder))
    return Reader(
        files=(given.zarr_store / "outputs/logits", folder),
        random=store.read_packed,
        sequential=lambda: map(store.read_packed, in_sequence(store.num_samples)),
    )


def prepare_zarr(_folder: Path, given: Given) -> Reader:
    return _compressed(given.zarr_store)


def prepare_parquet(_folder: Path, given: Given) -> Reader:
    return _compressed(given.parquet_store)


def _compressed(path: Path) -> Reader:
    """Each pass opens the store anew, so that none finds shards that an earlier one has decoded."""
    return Reader(
        files=(path / "outputs/logits",),
        shuffled=partial(_read_in_blocks, path),
        sequential=partial(_read_in_order, path),
    )


def _read_in_blocks(path: Path) -> Iterator[tuple[Numbers, Rows]]:
    store = open_store(path, cache=CacheOptions(max_bytes=0))
    grid = store.manifest.grid
    shards = [grid.shard(0, part) for part in range(grid.parts_per_view)]
    for source_B in block_shuffled(np.random.default_rng(0), shards):
        yield source_B, store.read_packed(source_B)


def _read_in_order(path: Path) -> Iterator[Rows]:
    store = open_store(path, cache=CacheOptions(max_bytes=0))
    yield from map(store.read_packed, in_sequence(store.num_samples))


LIMIT = Peer(name="np.take", how="memory-mapped file of packed rows: the limit", prepare=prepare_take)
OWN = [
    LIMIT,
    Peer(name="softlab, row cache", how="Zarr store, decoded once into packed rows", prepare=prepare_cached),
    Peer(
        name="softlab, Zarr shards", how="no row cache; shards in random order, shuffled within", prepare=prepare_zarr
    ),
    Peer(
        name="softlab, Parquet shards",
        how="no row cache; shards in random order, shuffled within",
        prepare=prepare_parquet,
    ),
]
