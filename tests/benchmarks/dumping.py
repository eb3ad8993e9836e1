"""A dump against the bare forward loop over the same batches."""

import shutil
from functools import partial
from pathlib import Path

import torch

from softlab.bench.timing import rates
from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device, place
from softlab.models.rows import logits_of
from softlab.sources.source import Source
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report

TEACHERS = {
    "grey_resnet, C=10, K=10": (
        ModelOptions(model="softlab:grey_resnet", weights=Path("data/fashion_mnist/teacher.safetensors")),
        ImageInput(mean=(0.286,), std=(0.353,)),
        10,
    ),
    "resnet18, random weights, C=1000, K=16": (
        ModelOptions(model="torchvision:resnet18"),
        ImageInput(channels=3, mean=(0.286,), std=(0.353,)),
        16,
    ),
}


def make_teachers() -> dict[str, tuple[Teacher, int]]:
    """Each with its K."""
    found = {}
    for title, (model, input, k) in TEACHERS.items():
        torch.manual_seed(0)
        found[title] = Teacher(module=build_model(model), name=model.model, arguments={}, input=input), k
    return found


def bench_dumping(
    report: Report, folder: Path, source: Source, teachers: dict[str, tuple[Teacher, int]], *, rounds: int
) -> None:
    """All teachers over the whole source."""
    rows = []
    for title, (teacher, k) in teachers.items():
        options = DumpOptions(k=k)
        found = rates(
            {
                "bare": partial(forward_only, teacher, source, options),
                "dump": partial(dump_anew, teacher, source, folder / "rate", options),
            },
            rounds=rounds,
        )
        ratio = found["dump"] / found["bare"]
        report.bar(f"dump against the bare forward loop: {title}", ratio, at_least=0.97)
        rows.append([title, f"{found['bare']:,.0f}", f"{found['dump']:,.0f}", f"{ratio:.3f}"])
    report.section(
        "Dumping",
        f"{len(source):,} images of {source.name}; rows per second of the bare loop (decode and forward only) and "
        "of a dump with selection, exact tails at T = 1, 2, 4, coding, hashing, fsync and the manifest.",
        ["teacher", "bare forward", "dump", "ratio"],
        rows,
    )


def forward_only(teacher: Teacher, source: Source, options: DumpOptions) -> int:
    """The bare loop over the batches of a dump; how many rows."""
    how = options.device
    device = choose_device(how.name)
    module = place(teacher.module.eval(), device, channels_last=how.channels_last)
    loader = BatchLoader(Aligned(source=source, inputs=(teacher.input,)), device=device, options=LoaderOptions())
    with torch.inference_mode():
        for batch in loader.load(in_sequence(0, len(source), batch_size=options.batch_size)):
            (collated,) = batch.to(device, channels_last=how.channels_last).inputs
            logits_of(module, collated.inputs, device=device, autocast=how.autocast)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return len(source)


def dump_anew(teacher: Teacher, source: Source, out: Path, options: DumpOptions) -> int:
    """In place of what was dumped there before; how many rows."""
    shutil.rmtree(out, ignore_errors=True)
    dump_teacher(teacher, source, out, options)
    return len(source)
