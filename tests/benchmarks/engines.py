"""What it costs to share a dump: shards as a job of one's own, and workers of a Ray cluster."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from softlab.bench.timing import Rate
from softlab.sources.source import Source
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.job import finalize
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import plan_dump
from tests.benchmarks.report import Report
from tests.benchmarks.threads import one_thread

SHARDS = 8
NUM_CORES = 2


def bench_engines(
    report: Report, folder: Path, source: Source, teacher: Teacher, *, rounds: int, has_ray: bool = True
) -> None:
    """The same dump in each way, each process on one core; a cluster is started once, and isn't measured."""
    options = DumpOptions(shard_rows=-(-len(source) // SHARDS))
    ways: dict[str, Callable[[], float]] = {
        "one process": partial(_dump, teacher, source, folder / "alone", options),
        "shards of a job": partial(_by_shards, teacher, source, folder / "shards", options),
    }
    taken: dict[str, list[float]]
    with one_thread(), _cluster(is_wanted=has_ray):
        for count in (1, NUM_CORES) if has_ray else ():
            of_ray = replace(options, engine="ray", devices=count, cpus_per_worker=1.0)
            ways[f"Ray, {count} workers"] = partial(_dump, teacher, source, folder / f"ray-{count}", of_ray)
        taken = {way: [] for way in ways}
        for _ in range(rounds):
            for way, measure in ways.items():
                taken[way].append(measure())
    found = {way: Rate(measured) for way, measured in taken.items()}
    alone = found["one process"]
    report.bar("shards of a job against a dump by one process", found["shards of a job"] / alone, at_least=0.95)
    if has_ray:
        report.bar("a worker of Ray against a dump by one process", found["Ray, 1 workers"] / alone, at_least=0.95)
    report.section(
        "Sharing a dump",
        f"{len(source):,} images of {source.name} by {teacher.name}, in {SHARDS} shards, each process on one core; "
        f"rows per second with commits and finalizing, from when a worker holds the teacher.",
        ["way", "rows per second", "relative"],
        [[way, f"{rate:,.0f}", f"{rate / alone:.3f}"] for way, rate in found.items()],
    )


def _dump(teacher: Teacher, source: Source, out: Path, options: DumpOptions) -> float:
    """In place of what was dumped there before; rows per second from when the workers are ready."""
    shutil.rmtree(out, ignore_errors=True)
    rate = dump_teacher(teacher, source, out, options).rows_per_second
    assert rate is not None, "nothing was there"
    return rate


def _by_shards(teacher: Teacher, source: Source, out: Path, options: DumpOptions) -> float:
    shutil.rmtree(out, ignore_errors=True)
    job = plan_dump(teacher, source, out, options)
    start = time.perf_counter()
    job.run_shards(range(job.num_shards))
    finalize(out)
    return len(source) / (time.perf_counter() - start)


@contextmanager
def _cluster(*, is_wanted: bool) -> Iterator[None]:
    if not is_wanted:
        yield
        return
    import ray

    ray.init(num_cpus=NUM_CORES, log_to_driver=False, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()
