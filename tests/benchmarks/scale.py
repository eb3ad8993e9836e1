"""What a store of very many samples costs, part by part: python -m tests.benchmarks.scale --samples 10000000.

Each part runs in a process of its own. Its memory is what it holds at its peak beyond what it was given; files that are
mapped are left out. Linux only, as /proc tells that.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from mmap import ACCESS_READ, mmap
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from softlab.identity import ContentHashes, digest_of, keys_fingerprint, source_fingerprint
from softlab.keys import Keys
from softlab.loading.aligned import Aligned
from softlab.loading.decoded import Decoded
from softlab.loading.loader import Batches
from softlab.loading.order import ShuffledBatches
from softlab.loading.sample_check import align
from softlab.manifest import FileRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.models.device import DeviceOptions
from softlab.sources.source import Sample
from softlab.store.access import joining
from softlab.store.cache import CacheOptions
from softlab.store.folder import read_plan
from softlab.store.reader import open_store
from softlab.store.samples import (
    GROUP_ROWS,
    SAMPLES_NAME,
    SCHEMA,
    SampleTable,
    decode_samples,
    encode_samples,
)
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.job import finalize
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher, plan_dump
from tests.benchmarks.memory import anonymous_bytes
from tests.benchmarks.report import Report
from tests.benchmarks.stores import BlankImages, RandomLogits, write_manifest_alone, write_synthetic_store

INPUT = ImageInput(mean=(0.0,), std=(1.0,))
POLL_S = 0.002
BATCH_ROWS = 1024
SHARD_ROWS = 1 << 16
PART = 100
"""One of so many samples is in the part of a store that is trained on."""

Part = Callable[[Path, int], Callable[[], object]]
"""Gets ready for so many samples, and returns what is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one part."""

    seconds: float
    peak_bytes: int


class Named(BlankImages):
    """Blank images with keys and content hashes of their own."""

    def __init__(self, table: SampleTable, *, every: int = 1) -> None:
        """Of one in so many samples."""
        self.keys = Keys(table.keys)[::every]
        self._hashes_N16 = ContentHashes(table.content_hashes).bytes_N16[::every].copy()

    def read(self, index: int) -> Sample:
        return replace(super().read(index), content_hash=self._hashes_N16[index].tobytes())


def keys_of(num_samples: int) -> Keys:
    """Such as the paths of a folder of images."""
    return Keys(f"train/{number % 1000:04d}/{number:010d}.jpg" for number in range(num_samples))


def table_of(num_samples: int) -> SampleTable:
    hashes_N16 = np.random.default_rng(0).integers(0, 256, (num_samples, 16), dtype=np.uint8)
    return SampleTable(keys=keys_of(num_samples), targets_N=None, content_hashes=ContentHashes.from_bytes(hashes_N16))


def store_of(folder: Path, num_samples: int, *, is_finished: bool = True) -> Path:
    """With 4 of 16 classes; written once."""
    path = folder / f"store-{num_samples}-{is_finished}"
    if not path.exists():
        samples = table_of(num_samples)
        write_synthetic_store(
            path,
            form="zarr",
            num_samples=num_samples,
            k=4,
            num_classes=16,
            shard_rows=SHARD_ROWS,
            samples=samples,
            is_finished=is_finished,
        )
    return path


def key_fingerprint(folder: Path, num_samples: int) -> Callable[[], object]:
    keys = keys_of(num_samples)
    return lambda: keys_fingerprint(keys)


def whole_fingerprint(folder: Path, num_samples: int) -> Callable[[], object]:
    table = table_of(num_samples)
    return lambda: source_fingerprint(table.keys, table.content_hashes)


def encoding(folder: Path, num_samples: int) -> Callable[[], object]:
    table = table_of(num_samples)
    return lambda: encode_samples(table)


def decoding(folder: Path, num_samples: int) -> Callable[[], object]:
    data = encode_samples(table_of(num_samples))
    return lambda: decode_samples(data, num_samples=num_samples)


def first_batch(folder: Path, num_samples: int) -> Callable[[], object]:
    order = ShuffledBatches(num_samples=num_samples, batch_size=BATCH_ROWS, epochs=1, seed=0)
    return lambda: next(iter(order))


def first_batch_of_views(folder: Path, num_samples: int) -> Callable[[], object]:
    order = ShuffledBatches(
        num_samples=num_samples, batch_size=BATCH_ROWS, epochs=4, seed=0, num_views=4, view_order="random"
    )
    return lambda: next(iter(order))


def thousand_batches(folder: Path, num_samples: int) -> Callable[[], object]:
    batches = iter(ShuffledBatches(num_samples=num_samples, batch_size=BATCH_ROWS, epochs=2, seed=0))
    next(batches)
    return lambda: list(islice(batches, 1000))


def opening(folder: Path, num_samples: int) -> Callable[[], object]:
    num_shards = -(-num_samples // SHARD_ROWS)
    path = write_manifest_alone(folder / f"manifest-{num_shards}", num_shards=num_shards, rows_per_shard=SHARD_ROWS)
    return lambda: open_store(path)


def joining_dump(folder: Path, num_samples: int) -> Callable[[], object]:
    """In shards of 16 samples: what costs is how many there are."""
    import tests.no_power_cuts  # noqa: F401 - of the small files nobody waits for

    path = folder / f"begun-{num_samples}"
    write_synthetic_store(
        path, form="parquet", num_samples=num_samples, k=4, num_classes=16, shard_rows=16, is_finished=False
    )
    plan = read_plan(path)

    def join() -> None:
        with joining(path, plan):
            pass

    return join


def finalizing(folder: Path, num_samples: int) -> Callable[[], object]:
    path = store_of(folder, num_samples, is_finished=False)
    return lambda: finalize(path)


def planning(folder: Path, num_samples: int) -> Callable[[], object]:
    return partial(plan_dump, *dump_of(folder / "planned", num_samples))


def dumping(folder: Path, num_samples: int) -> Callable[[], object]:
    """All of it, of a teacher that costs next to nothing."""
    torch.set_num_threads(1)
    return partial(dump_teacher, *dump_of(folder / "dumped", num_samples))


def dump_of(out: Path, num_samples: int) -> tuple[Teacher, BlankImages, Path, DumpOptions]:
    options = DumpOptions(k=4, batch_size=1024, shard_rows=SHARD_ROWS, device=DeviceOptions(name="cpu"))
    return as_teacher(RandomLogits(num_classes=16), input=INPUT), BlankImages(num_samples), out, options


def aligning_all(folder: Path, num_samples: int) -> Callable[[], object]:
    store, source = open_store(store_of(folder, num_samples), cache=cache_in(folder)), Named(table_of(num_samples))
    return lambda: align(source, store)


def aligning_part(folder: Path, num_samples: int) -> Callable[[], object]:
    store = open_store(store_of(folder, num_samples), cache=cache_in(folder))
    source = Named(table_of(num_samples), every=PART)
    return lambda: align(source, store, subset=True)


def cache_in(folder: Path) -> CacheOptions:
    return CacheOptions(dir=folder / "cache")


# A reader of a store without labels, whose table of samples is written quickly: all but the labels is as in training.


class Numbered(BlankImages):
    """Some samples, whose keys and content hashes are their numbers in a store."""

    def __init__(self, store_N: NDArray[np.int64]) -> None:
        self.keys = Keys.from_arrow(pa.array(store_N).cast(pa.string()))
        self._store_N = store_N

    def read(self, index: int) -> Sample:
        number = int(self._store_N[index]).to_bytes(8, "little")
        return replace(super().read(index), content_hash=number + number)


def write_table(path: Path, *, num_samples: int) -> FileRecord:
    """`samples.parquet` of numbered samples."""
    path.mkdir(parents=True)
    with pq.ParquetWriter(path / SAMPLES_NAME, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, num_samples, GROUP_ROWS):
            numbers = np.arange(start, min(start + GROUP_ROWS, num_samples))
            hashes = pa.py_buffer(numbers.repeat(2).tobytes())
            columns = [
                pa.array(numbers),
                pa.array(numbers).cast(pa.string()),
                pa.nulls(len(numbers), pa.int64()),
                pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(numbers), [None, hashes]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), row_group_size=GROUP_ROWS)
    with (path / SAMPLES_NAME).open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        return FileRecord(path=SAMPLES_NAME, bytes=len(mapped), blake3=digest_of(mapped))


def reading(folder: Path, num_samples: int) -> Callable[[], object]:
    """Open a store, align a part of 100,000 of its samples from all over it, and load 50 shuffled batches of them."""
    num_shards, path = -(-num_samples // SHARD_ROWS), folder / f"table-{num_samples}"
    num_samples = num_shards * SHARD_ROWS
    if not path.exists():
        record = write_table(path, num_samples=num_samples)
        write_manifest_alone(path, num_shards=num_shards, rows_per_shard=SHARD_ROWS, samples_file=record)
    source = Numbered(np.arange(0, num_samples, num_samples // min(num_samples, 100_000)))
    order = ShuffledBatches(num_samples=len(source), batch_size=BATCH_ROWS, epochs=1, seed=0)

    def read() -> object:
        store = open_store(path, cache=cache_in(folder))
        store_N = align(source, store, subset=True)
        batches = Batches(Aligned(source=source, inputs=(INPUT,), store=store, store_N=store_N), Decoded(0))
        return [batches.make(rows) for rows in islice(order, 50)]

    return read


PARTS: dict[str, Part] = {
    "fingerprint of keys": key_fingerprint,
    "fingerprint of keys and contents": whole_fingerprint,
    "samples.parquet, encoded": encoding,
    "samples.parquet, decoded": decoding,
    "order of an epoch, its first batch": first_batch,
    "1,000 batches more": thousand_batches,
    "views in random order, the first batch": first_batch_of_views,
    "opening": opening,
    "joining, shards of 16": joining_dump,
    "plan": planning,
    "dump, with plan and finalize": dumping,
    "finalize": finalizing,
    "alignment of all": aligning_all,
    "alignment of 1 in 100": aligning_part,
    "opening, alignment of 100,000, 50 batches": reading,
}


def measure(part: Part, folder: Path, *, num_samples: int) -> Cost:
    """In a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure_here, args=(theirs, part, folder, num_samples))
    process.start()
    theirs.close()
    try:
        cost: Cost = ours.recv()
    except EOFError:
        raise RuntimeError("the process that was measured ended with an error") from None
    process.join()
    return cost


def _measure_here(results: Connection, part: Part, folder: Path, num_samples: int) -> None:
    work = part(folder, num_samples)
    status, peak, is_done = Path("/proc/self/status"), 0, threading.Event()
    before = anonymous_bytes(status)

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(POLL_S):
            peak = max(peak, anonymous_bytes(status))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    kept = work()
    seconds = time.perf_counter() - start
    is_done.set()
    watcher.join()
    peak = max(peak, anonymous_bytes(status))
    del kept
    results.send(Cost(seconds=seconds, peak_bytes=max(peak - before, 0)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="by default all")
    parser.add_argument("--folder", type=Path, help="for what is written; by default a temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        rows = []
        for title in options.part or PARTS:
            cost = measure(PARTS[title], options.folder or Path(name), num_samples=options.samples)
            rows.append([title, f"{options.samples:,}", f"{cost.seconds:.3f}", f"{cost.peak_bytes / 1e6:,.1f}"])
            print(" | ".join(rows[-1]), flush=True)
    Report().section("Scale", __doc__.partition("\n")[0], ["part", "samples", "seconds", "MB at the peak"], rows)


if __name__ == "__main__":
    main()
