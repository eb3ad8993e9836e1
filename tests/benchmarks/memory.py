"""What memory a dump and an epoch take for each row of a store.

Linux only: /proc tells anonymous memory apart from files that are mapped, which the system takes back when it needs to.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import torch

from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.loading.sample_check import align
from softlab.modalities.images.inputs import ImageInput
from softlab.models.device import DeviceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.teacher.dump import dump_teacher
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher
from tests.benchmarks.report import Report
from tests.benchmarks.stores import BlankImages, RandomLogits

INPUT = ImageInput(mean=(0.0,), std=(1.0,))
SHARD_ROWS = 8192
GROWTH = 10
POLL_S = 0.005


def bench_memory(report: Report, folder: Path, *, num_samples: int) -> None:
    """At `num_samples` rows and at a tenth of them, each in a process of its own."""
    few, many = num_samples // GROWTH, num_samples
    rows = []
    for title, work in {"dump": _dump, "epoch": _train}.items():
        small, large = (peak_bytes(work, folder / f"memory-{count}", count) for count in (few, many))
        rows.append([title, f"{small / 1e6:.1f}", f"{large / 1e6:.1f}", f"{(large - small) / (many - few):.1f}"])
    report.section(
        "Memory",
        f"Peak anonymous memory of a process in MB, libraries included: of a dump in shards of {SHARD_ROWS:,} rows, "
        "K = 4 of 16 classes, and of an epoch of its labels and inputs in shuffled order. Row cache and compressed "
        "shards are files.",
        ["work", f"{few:,} rows", f"{many:,} rows", "bytes for each row more"],
        rows,
    )


def _dump(path: Path, num_samples: int) -> None:
    torch.set_num_threads(1)
    teacher = as_teacher(RandomLogits(num_classes=16), input=INPUT)
    options = DumpOptions(k=4, batch_size=1024, shard_rows=SHARD_ROWS, device=DeviceOptions(name="cpu"))
    dump_teacher(teacher, BlankImages(num_samples), path, options)


def _train(path: Path, num_samples: int) -> None:
    torch.set_num_threads(1)
    source, store = BlankImages(num_samples), open_store(path, cache=CacheOptions(dir=path.with_suffix(".cache")))
    aligned = Aligned(source=source, inputs=(INPUT,), store=store, store_N=align(source, store))
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))
    order = ShuffledBatches(num_samples=num_samples, batch_size=min(1024, num_samples), epochs=1, seed=0)
    for _ in loader.load(order):
        pass


def peak_bytes(work: Callable[[Path, int], None], path: Path, num_samples: int) -> int:
    """Of a process that does some work, watched from outside, where nothing that it does delays the watching."""
    context = get_context("forkserver")  # each as fresh as a new interpreter, and the libraries are imported once
    context.set_forkserver_preload([__name__])
    process = context.Process(target=work, args=(path, num_samples))
    process.start()
    peak = 0
    while process.is_alive():
        peak = max(peak, anonymous_bytes(Path(f"/proc/{process.pid}/status")))
        time.sleep(POLL_S)
    if process.exitcode:
        raise RuntimeError(f"the process that was measured ended with {process.exitcode}")
    return peak


def anonymous_bytes(status: Path) -> int:
    """0 for a process that has just ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
