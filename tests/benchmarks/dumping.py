"""A dump against the bare forward loop over the same batches."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from softlab.bench.timing import rates
from softlab.identity import content_hash
from softlab.keys import Keys
from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device, place
from softlab.models.rows import logits_of
from softlab.sources.source import Sample, SkippedSample, Source
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


SHORT, TIMES = 1024, 4
"""Images of a dump, and how much longer the longer one is."""

TURNS = 5
"""Of each way in a round but the first, where there are so many images: between long turns a machine's speed changes by
more than a dump costs."""


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
    """All teachers over a few images, and over several times as many: what a dump costs once is the same then."""
    rows, short = [], Repeated(source, min(len(source), SHORT))
    longer = Repeated(source, TIMES * len(short))
    turns = TURNS * (rounds - 1) + 1 if len(short) == SHORT else rounds
    for title, (teacher, k) in teachers.items():
        options = DumpOptions(k=k)
        found = rates(
            {
                "bare": partial(forward_only, teacher, short, options),
                "dump": partial(dump_anew, teacher, short, folder / "rate", options),
                "bare, longer": partial(forward_only, teacher, longer, options),
                "dump, longer": partial(dump_anew, teacher, longer, folder / "rate", options),
            },
            rounds=turns,
        )
        bare_s, dump_s = (_seconds_a_row(found, way, short, longer) for way in ("bare", "dump"))
        beyond = bare_s / dump_s
        once_s = len(short) * ((1 / found["dump"] - dump_s) - (1 / found["bare"] - bare_s))
        report.bar(f"dump against the bare forward loop, without what it costs once: {title}", beyond, at_least=0.97)
        report.ratio(f"dump against the bare forward loop: {title}", found["dump"] / found["bare"])
        whole = [f"{found[f'dump{which}'] / found[f'bare{which}']:.3f}" for which in ("", ", longer")]
        rows.append([title, f"{found['bare']:,.0f}", *whole, f"{beyond:.3f}", f"{once_s:.2f}"])
    report.section(
        "Dumping",
        f"{len(short):,} images of {source.name}, and {TIMES} times as many, in many short turns; rows per second of "
        "the bare loop (decode and forward only), and of a dump with selection, exact tails at T = 1, 2, 4, coding, "
        "hashing, fsync and the manifest, as a share of it. Some of a dump costs the same however long it is: checks "
        "of the teacher with few samples, the hash of its weights, the plan, the last shard's coding, which no forward "
        "pass hides, and the manifest. The last ratio is of the rows that the longer one has more.",
        ["teacher", "bare forward", "dump", f"{TIMES} times as long", "without what is once", "once, s"],
        rows,
    )


def _seconds_a_row(found: Mapping[str, float], way: str, source: Source, longer: Source) -> float:
    """Of the rows that the longer run has more."""
    more_s = len(longer) / found[f"{way}, longer"] - len(source) / found[way]
    return more_s / (len(longer) - len(source))


class Repeated:
    """So many samples: a source's from the first one on, over and over, each time under new keys, and as if they were
    others."""

    def __init__(self, source: Source, count: int) -> None:
        self._source = source
        self.name, self.class_names, self.field_names = source.name, source.class_names, source.field_names
        self.skipped: tuple[SkippedSample, ...] = ()
        self.keys = Keys(f"{index}/{source.keys[index % len(source)]}" for index in range(count))
        self.targets = {name: np.resize(targets_N, count) for name, targets_N in source.targets.items()}

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Sample:
        sample, key = self._source.read(index % len(self._source)), self.keys[index]
        return replace(sample, index=index, key=key, content_hash=content_hash(key.encode() + sample.content_hash))


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
