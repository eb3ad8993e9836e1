"""Stores and files read with nothing but the library of their format: zarr, pyarrow, torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import torch
import zarr

from softlab.bench.read_turns import BATCH
from softlab.bench.read_turns import StoreIndices as Numbers
from softlab.store.reader import open_store
from softlab.store.rows import RowLayout, Rows, layout_of
from tests.benchmarks.peers.peer import Given, Peer, Reader, in_sequence


def prepare_zarr(_folder: Path, given: Given) -> Reader:
    layout = _layout_of(given.zarr_store)
    arrays = {field.name: zarr.open_array(given.zarr_store / field.name, mode="r") for field in layout.fields}

    def read(numbers: Numbers | slice) -> Rows:
        return layout.pack({name: np.asarray(array.oindex[0, numbers]) for name, array in arrays.items()})

    def read_in_shards() -> Iterator[Rows]:
        shards = next(iter(arrays.values())).shards
        assert shards is not None
        for start in range(0, len(given.rows_NR), shards[1]):
            shard = read(slice(start, start + shards[1]))
            yield from (shard[first : first + BATCH] for first in range(0, len(shard), BATCH))

    return Reader(files=(given.zarr_store / "outputs/logits",), random=read, sequential=read_in_shards)


def prepare_parquet(_folder: Path, given: Given) -> Reader:
    layout = _layout_of(given.parquet_store)
    columns = [field.short_name for field in layout.fields]
    dataset = pyarrow.dataset.dataset(given.parquet_store / "outputs/logits", format="parquet")
    return Reader(
        files=(given.parquet_store / "outputs/logits",),
        random=lambda source_B: _pack(layout, dataset.take(source_B, columns=columns)),
        sequential=lambda: (
            _pack(layout, pa.table(batch)) for batch in dataset.to_batches(columns=columns, batch_size=BATCH)
        ),
    )


def prepare_torch(folder: Path, given: Given) -> Reader:
    for number, row_R in enumerate(given.rows_NR):
        torch.save(torch.from_numpy(row_R).clone(), folder / f"{number}.pt")  # a view would bring all rows along

    def read(source_B: Numbers) -> Rows:
        loaded = [torch.load(folder / f"{number}.pt", weights_only=True) for number in source_B]
        rows_BR: Rows = torch.stack(loaded).numpy()
        return rows_BR

    return Reader(files=(folder,), random=read, sequential=lambda: map(read, in_sequence(len(given.rows_NR))))


def _layout_of(store: Path) -> RowLayout:
    manifest = open_store(store).manifest
    return layout_of(manifest.storage.fields_of(manifest.group_of(manifest.classes[0])))


def _pack(layout: RowLayout, table: pa.Table) -> Rows:
    arrays = {}
    for field in layout.fields:
        column = table[field.short_name].combine_chunks()
        values = (column.flatten() if field.row_shape else column).to_numpy(zero_copy_only=False)
        arrays[field.name] = values.reshape(len(table), *field.row_shape)
    return layout.pack(arrays)


FORMATS = [
    Peer(
        name="Zarr directly",
        package="zarr",
        how="softlab's Zarr store; oindex of each array, in sequence whole shards",
        prepare=prepare_zarr,
    ),
    Peer(
        name="Parquet directly",
        package="pyarrow",
        how="softlab's Parquet store; take and to_batches of a pyarrow dataset",
        prepare=prepare_parquet,
    ),
    Peer(
        name="torch files",
        package="torch",
        how="a .pt file for each row; torch.load of each",
        prepare=prepare_torch,
        max_rows=5_000,
    ),
]
