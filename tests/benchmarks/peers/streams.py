"""Libraries that stream samples to a training loop: MosaicML streaming, litdata, webdataset."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from softlab.bench.read_turns import BATCH
from softlab.bench.read_turns import StoreIndices as Numbers
from softlab.store.rows import Rows
from tests.benchmarks.peers.peer import Given, Peer, Reader

SAMPLES_PER_TAR = 10_000
SHUFFLE_BUFFER = 1_000


def prepare_mosaic(folder: Path, given: Given) -> Reader:
    import streaming

    with streaming.MDSWriter(out=str(folder), columns={"row": f"ndarray:uint8:{given.rows_NR.shape[1]}"}) as writer:
        for row_R in given.rows_NR:
            writer.write({"row": row_R})
    dataset = streaming.StreamingDataset(local=str(folder), shuffle=False, batch_size=BATCH)
    return Reader(
        files=(folder,),
        random=lambda source_B: np.stack([sample["row"] for sample in dataset[source_B]]),
        sequential=lambda: (batch["row"].numpy() for batch in streaming.StreamingDataLoader(dataset, batch_size=BATCH)),
    )


def prepare_litdata(folder: Path, given: Given) -> Reader:
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"  # else it asks the network, and waits where there is none
    import litdata

    source, chunks = folder / "rows.npy", folder / "chunks"
    np.save(source, given.rows_NR)
    _write_chunks(source, chunks)
    by_row = litdata.StreamingDataset(str(chunks), batch_decode=0)
    in_order = litdata.StreamingDataset(str(chunks))
    return Reader(
        files=(chunks,),
        random=lambda source_B: np.stack([by_row[number] for number in source_B.tolist()]),
        sequential=lambda: (batch.numpy() for batch in litdata.StreamingDataLoader(in_order, batch_size=BATCH)),
    )


def _write_chunks(source: Path, chunks: Path) -> None:
    """In a process of its own: optimize() changes how its process starts others."""
    script = Path(__file__).with_name("write_litdata.py")
    scratch = {f"DATA_OPTIMIZER_{name}FOLDER": str(source.parent / name) for name in ("CACHE_", "DATA_CACHE_")}
    command = [sys.executable, str(script), str(source), str(chunks)]
    subprocess.run(command, env=os.environ | scratch, check=True, stdout=subprocess.DEVNULL)


def prepare_webdataset(folder: Path, given: Given) -> Reader:
    import webdataset

    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=SAMPLES_PER_TAR, verbose=0) as writer:
        for number, row_R in enumerate(given.rows_NR):
            writer.write({"__key__": f"{number:08d}", "row.bin": row_R.tobytes()})
    tars = sorted(str(path) for path in folder.glob("*.tar"))

    def in_order() -> Iterator[Rows]:
        dataset = webdataset.WebDataset(tars, shardshuffle=False).to_tuple("row.bin")
        return iter(dataset.batched(BATCH, collation_fn=lambda samples: _join([row for (row,) in samples])))

    def shuffled() -> Iterator[tuple[Numbers, Rows]]:
        dataset = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(SHUFFLE_BUFFER)
        return iter(dataset.to_tuple("__key__", "row.bin").batched(BATCH, collation_fn=_join_numbered))

    return Reader(files=(folder,), shuffled=shuffled, sequential=in_order)


def _join(rows: Sequence[bytes]) -> Rows:
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)


def _join_numbered(samples: Sequence[tuple[str, bytes]]) -> tuple[Numbers, Rows]:
    return np.array([int(key) for key, _ in samples]), _join([row for _, row in samples])


STREAMS = [
    Peer(
        name="MosaicML streaming",
        package="mosaicml-streaming",
        how="MDS shards, local; dataset[numbers], in sequence its data loader",
        prepare=prepare_mosaic,
    ),
    Peer(
        name="litdata",
        package="litdata",
        how="optimized chunks, local; dataset[number] for each row without windows, in sequence its data loader",
        prepare=prepare_litdata,
    ),
    Peer(
        name="webdataset",
        package="webdataset",
        how=f"tar shards; not random: shards in random order and a shuffle buffer of {SHUFFLE_BUFFER:,}",
        prepare=prepare_webdataset,
        max_rows=50_000,
    ),
]
