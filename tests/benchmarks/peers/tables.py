"""Columnar libraries with reads of many rows at once: Lance and Hugging Face datasets."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from softlab.bench.read_turns import BATCH
from softlab.store.rows import Rows
from tests.benchmarks.peers.peer import Given, Peer, Reader


def prepare_lance(folder: Path, given: Given) -> Reader:
    import lance

    row_bytes = given.rows_NR.shape[1]
    dataset = lance.write_dataset(_table(given.rows_NR), folder / "rows.lance")

    def rows_of(table: pa.Table | pa.RecordBatch) -> Rows:
        values: Rows = pa.table(table)["row"].combine_chunks().flatten().to_numpy()
        return values.reshape(-1, row_bytes)

    return Reader(
        files=(folder,),
        random=lambda source_B: rows_of(dataset.take(pa.array(source_B))),
        sequential=lambda: map(rows_of, dataset.to_batches(batch_size=BATCH)),
    )


def prepare_hugging_face(folder: Path, given: Given) -> Reader:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset(_table(given.rows_NR)).save_to_disk(folder / "rows")
    dataset = datasets.load_from_disk(folder / "rows").with_format("numpy", dtype=np.uint8)
    return Reader(
        files=(folder,),
        random=lambda source_B: dataset[source_B]["row"],
        sequential=lambda: (batch["row"] for batch in dataset.iter(batch_size=BATCH)),
    )


def _table(rows_NR: Rows) -> pa.Table:
    return pa.table({"row": pa.FixedSizeListArray.from_arrays(pa.array(rows_NR.reshape(-1)), rows_NR.shape[1])})


TABLES = [
    Peer(
        name="Lance",
        package="pylance",
        how="fixed-size list column; take and to_batches",
        prepare=prepare_lance,
    ),
    Peer(
        name="Hugging Face datasets",
        package="datasets",
        how="Arrow, memory-mapped, numpy format; dataset[numbers] and iter",
        prepare=prepare_hugging_face,
    ),
]
