"""What one pass for several students saves against a run for each: reading, decoding and views are paid once."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from softlab.bench.timing import rates
from softlab.loading.options import CheckOptions
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.build import ModelOptions, build_model
from softlab.sources.source import Source
from softlab.sources.subset import first
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.options import LogOptions, RunOptions, TrainOptions
from softlab.student.train import train_students
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report

FINISHING = ImageInput(mean=(0.286,), std=(0.353,))
AUGMENT = ViewRecipe(transforms=("RandomResizedCrop(28)", "RandomHorizontalFlip()", "RandAugment()"))
OPTIONS = TrainOptions(
    run=RunOptions(epochs=1, batch_size=128), check=CheckOptions(verify_inputs="some"), log=LogOptions(track=())
)
NUM_IMAGES = 2000
COUNTS = (1, 2, 4, 8)


def bench_students(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """An epoch of the demo's CNN on augmented views, N of them together and one after the other."""
    source = first(source, min(NUM_IMAGES, len(source)))
    store = _dump(folder / "students", source)
    ways = {f"{count} together": partial(_train, source, store, [count]) for count in COUNTS}
    ways |= {f"{count} alone": partial(_train, source, store, [1] * count) for count in COUNTS}
    found = rates(ways, rounds=rounds)
    rows = [
        [
            str(count),
            f"{1 / found[f'{count} together']:.2f}",
            f"{1 / found[f'{count} alone']:.2f}",
            f"{found[f'{count} together'] / found[f'{count} alone']:.2f}",
        ]
        for count in COUNTS
    ]
    share = found[f"{COUNTS[-1]} alone"] / found[f"{COUNTS[-1]} together"]
    report.bar(f"seconds of one pass for {COUNTS[-1]} students, as a share of {COUNTS[-1]} runs", share, at_most=0.7)
    report.section(
        "Students in one pass",
        f"Training on {len(source):,} images for one epoch, each decoded and augmented once (resized crop, flip, "
        "RandAugment); seconds for N students in one pass and in N runs. The weights are the same to the bit.",
        ["students", "one pass, s", "N runs, s", "runs / pass"],
        rows,
    )


def _dump(out: Path, source: Source) -> Store:
    module = build_model(ModelOptions(model="softlab:grey_cnn"))
    teacher = Teacher(module=module, name="softlab:grey_cnn", arguments={}, input=FINISHING)
    dump_teacher(teacher, source, out, DumpOptions(k=5, temperature=(1.0, 4.0)), augment=AUGMENT)
    return open_store(out, cache=CacheOptions(dir=out.with_suffix(".cache")))


def _train(source: Source, store: Store, counts: list[int]) -> int:
    for count in counts:
        train_students(_students(count), source, [store], OPTIONS, input=FINISHING)
    return 1


def _students(count: int) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {f"student-{number}": build_model(ModelOptions(model="softlab:grey_cnn")) for number in range(count)}
