"""A dump against the bare forward loop over the same batches, and what a row weighs in each coding and format."""

import shutil
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from softlab.labels.coding import Coding
from softlab.loading.batches import Aligned, BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device, place
from softlab.sources.source import Source
from softlab.store.format import FormatName
from softlab.teacher.dump import DumpSummary, dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from softlab.views.finishing import Finishing
from tests.benchmarks.interleave import rates
from tests.benchmarks.report import Report

TEACHERS = {
    "grey_resnet, C=10, K=10": (
        ModelOptions(model="softlab:grey_resnet", weights=Path("data/fashion_mnist/teacher.safetensors")),
        Finishing(mean=(0.286,), std=(0.353,)),
        10,
    ),
    "resnet18, random weights, C=1000, K=16": (
        ModelOptions(model="torchvision:resnet18"),
        Finishing(channels=3, mean=(0.286,), std=(0.353,)),
        16,
    ),
}


def bench_dumping(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """Both teachers over the whole source."""
    rate_rows, size_rows = [], []
    for title, (model, finishing, k) in TEACHERS.items():
        torch.manual_seed(0)
        teacher = Teacher(module=build_model(model), name=model.model, arguments={}, finishing=finishing)
        found = rates(
            {
                "bare": partial(_forward_only, teacher, source),
                "dump": partial(_dump, teacher, source, folder / "rate", DumpOptions(k=k)),
            },
            rounds=rounds,
        )
        ratio = found["dump"] / found["bare"]
        rate_rows.append([title, f"{found['bare']:,.0f}", f"{found['dump']:,.0f}", f"{ratio:.3f}"])
        size_rows += [[title, form, *_sizes(teacher, source, folder, form=form, k=k)] for form in get_args(FormatName)]
    report.section(
        "Dumping",
        f"{len(source):,} images of {source.name}; rows per second of the bare loop (decode and forward only) and "
        "of a dump with selection, exact tails at T = 1, 2, 4, coding, hashing, fsync and the manifest.",
        ["teacher", "bare forward", "dump", "ratio"],
        rate_rows,
    )
    report.section(
        "Size",
        "Bytes per row of the label arrays as stored: ids, logits, largest logit, tails at T = 1, 2, 4.",
        ["teacher", "format", *get_args(Coding)],
        size_rows,
    )


def _forward_only(teacher: Teacher, source: Source) -> int:
    device = choose_device("auto")
    module = place(teacher.module.eval(), device, channels_last=False)
    loader = BatchLoader(Aligned(source=source, finishing=teacher.finishing), device=device, options=LoaderOptions())
    with torch.inference_mode():
        for batch in loader.load(in_sequence(0, len(source), batch_size=DumpOptions().batch_size)):
            module(batch.to(device).images_BCHW)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return len(source)


def _dump(teacher: Teacher, source: Source, out: Path, options: DumpOptions) -> int:
    _dump_anew(teacher, source, out, options)
    return len(source)


def _dump_anew(teacher: Teacher, source: Source, out: Path, options: DumpOptions) -> DumpSummary:
    shutil.rmtree(out, ignore_errors=True)
    return dump_teacher(teacher, source, out, options)


def _sizes(teacher: Teacher, source: Source, folder: Path, *, form: FormatName, k: int) -> list[str]:
    options = [DumpOptions(k=k, coding=coding, format=form) for coding in get_args(Coding)]
    return [f"{_dump_anew(teacher, source, folder / 'size', each).label_bytes_per_row:.1f}" for each in options]
