"""What a command takes until its first batch, and a validation until its own."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.sources.source import Source
from tests.benchmarks.report import Report
from tests.sources.pictures import write_parquet

NUM_SAMPLES = 64
"""Of one batch, so that a command has hardly anything to do but to begin and to end."""

VALIDATED, BATCH = 256, 64
NUM_WORKERS = 2

Command = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """By one process and those that it waited for."""

    cpu_s: float
    wall_s: float


def bench_startup(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """In turn with `import torch`, which no command can do without; seconds of the processors, as a machine that others
    share makes no difference to them."""
    folder = folder / "startup"
    folder.mkdir()
    _bench_commands(report, _commands(folder, _write_samples(folder / "samples.parquet", source)), rounds=rounds)
    _bench_validations(report, source, rounds=rounds)


def _bench_commands(report: Report, commands: dict[str, Command], *, rounds: int) -> None:
    turns: dict[str, list[Taken]] = {name: [] for name in commands}
    for _ in range(rounds + 1):  # the first fills the row cache, and what the system keeps of files
        for name, command in commands.items():
            turns[name].append(_run(command))
    cpu = {name: statistics.median(each.cpu_s for each in taken[1:]) for name, taken in turns.items()}
    wall = {name: statistics.median(each.wall_s for each in taken[1:]) for name, taken in turns.items()}
    beyond = {name: cpu[name] - cpu["import torch"] for name in commands}
    report.bar("softlab --help, s", cpu["softlab --help"], at_most=0.25)
    for name in ("dump-teacher", "train-student", "evaluate"):
        report.bar(f"{name} of one batch beyond import torch, s", beyond[name], at_most=2.5)
    report.section(
        "Starting",
        f"Whole commands over {NUM_SAMPLES} images in one batch, their row cache filled; medians of {rounds} turns.",
        ["command", "CPU s", "beyond import torch", "seconds"],
        [[name, f"{cpu[name]:.2f}", f"{beyond[name]:+.2f}", f"{wall[name]:.2f}"] for name in commands],
    )


def _write_samples(path: Path, source: Source) -> Path:
    raws = [source.read(index).fields["image"] for index in range(min(NUM_SAMPLES, len(source)))]
    images = [{"bytes": raw, "path": f"{index}.png"} for index, raw in enumerate(raws)]
    return write_parquet(path, images, labels=[index % 10 for index in range(len(images))])


def _commands(folder: Path, samples: Path) -> dict[str, Command]:
    of_samples = ("--source", str(samples), "--device", "cpu")
    store = str(folder / "store")
    teacher = ("--teacher", "softlab:grey_cnn")
    student = ("--student", "softlab:grey_mlp", "--epochs", "1")
    dump = ("dump-teacher", *teacher, *of_samples, "--k", "5", "--out", store)
    cache = ("--set", f"cache.dir={folder / 'cache'}")
    train = ("train-student", "--store", store, *of_samples, *student, *cache, "--out", str(folder / "run"))
    evaluate = ("evaluate", "--model", "softlab:grey_mlp", *of_samples)
    softlab = (sys.executable, "-m", "softlab")
    return {
        "import torch": (sys.executable, "-c", "import torch"),
        "softlab --help": (*softlab, "--help"),
        "dump-teacher": (*softlab, *dump),
        "inspect": (*softlab, "inspect", store),
        "train-student": (*softlab, *train),
        "evaluate": (*softlab, *evaluate),
    }


def _run(command: Command) -> Taken:
    """In place of what it wrote before."""
    if "--out" in command:
        shutil.rmtree(command[command.index("--out") + 1], ignore_errors=True)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        assert process.stderr is not None, "it was asked for"
        told = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command}: {told}"
    return Taken(cpu_s=usage.ru_utime + usage.ru_stime, wall_s=time.perf_counter() - start)


def _bench_validations(report: Report, source: Source, *, rounds: int) -> None:
    """Over the same samples again and again, as after each epoch."""
    aligned = Aligned(source=source, inputs=(ImageInput(),))
    with (
        closing(_loader(aligned, workers=0)) as alone,
        closing(_loader(aligned, workers=NUM_WORKERS)) as kept,
    ):
        ways: dict[str, Callable[[], float]] = {
            "no workers": partial(_validate, alone),
            "workers that stay": partial(_validate, kept),
            "workers that start": partial(_validate_anew, aligned),
        }
        measured: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds + 1):
            for name, way in ways.items():
                measured[name].append(way())
    found = {name: statistics.median(seconds[1:]) for name, seconds in measured.items()}
    beyond = {name: seconds - found["no workers"] for name, seconds in found.items()}
    report.bar("a validation with workers beyond its batches, s", beyond["workers that stay"], at_most=0.1)
    report.section(
        "Validations",
        f"Seconds of a validation on {min(VALIDATED, len(source))} images that are decoded already, with {NUM_WORKERS} "
        "workers, and what that is beyond the same batches made in the process itself.",
        ["way", "seconds", "beyond"],
        [[name, f"{found[name]:.3f}", f"{beyond[name]:+.3f}"] for name in ways],
    )


def _loader(aligned: Aligned, *, workers: int, keep_workers: bool = True) -> BatchLoader:
    options = LoaderOptions(workers=workers)
    return BatchLoader(
        aligned, device=torch.device("cpu"), options=options, keep_decoded=True, keep_workers=keep_workers
    )


def _validate(loader: BatchLoader) -> float:
    start, count = time.perf_counter(), min(VALIDATED, len(loader.aligned.source))
    for _ in loader.load(in_sequence(0, count, batch_size=BATCH)):
        pass
    return time.perf_counter() - start


def _validate_anew(aligned: Aligned) -> float:
    return _validate(_loader(aligned, workers=NUM_WORKERS, keep_workers=False))
