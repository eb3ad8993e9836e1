"""On a GPU: whether a dump, and stored labels, keep it as busy as the bare model does."""

# Shape letters: C channels, H height, W width.

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.bench.student_steps import StudentSteps
from softlab.bench.timing import rates
from softlab.identity import content_hash
from softlab.keys import Keys
from softlab.loading.batch import Batch
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions, choose_device
from softlab.models.rows import logits_of
from softlab.sources.source import Sample, SkippedSample
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, RunOptions, TrainOptions
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.dumping import dump_anew, forward_only
from tests.benchmarks.report import Report

POOL = 64
"""Images that are really there; decoding is not what is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a GPU is given to do."""

    device: str = "cuda"
    autocast: Literal["none", "bfloat16"] = "bfloat16"
    teacher: str = "torchvision:resnet50"
    student: str = "torchvision:resnet18"
    num_images: int = 16_384
    side: int = 224
    batch_size: int = 256


class RandomImages:
    """A source of a few random RGB images, shown again and again under new keys."""

    name = "random images"
    class_names = None
    skipped: tuple[SkippedSample, ...] = ()
    field_names = ("image",)

    def __init__(self, num_samples: int, *, side: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._pool_PCHW = torch.randint(256, (POOL, 3, side, side), dtype=torch.uint8, generator=generator)
        self.keys = Keys(str(number) for number in range(num_samples))
        self.targets: Mapping[str, NDArray[np.int64]] = {"label": np.arange(num_samples) % 1000}

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Sample:
        return Sample(
            index=index,
            key=self.keys[index],
            fields={"image": self._pool_PCHW[index % POOL].numpy()},
            content_hash=content_hash(index.to_bytes(8, "little")),
            place=self.name,
        )


def bench_on_gpu(report: Report, folder: Path, work: Work, *, rounds: int) -> None:
    """Teacher and student of ImageNet's size, in short floats and channels last."""
    source = RandomImages(work.num_images, side=work.side)
    torch.manual_seed(0)
    module = build_model(ModelOptions(model=work.teacher))
    teacher = Teacher(module=module, name=work.teacher, arguments={}, input=ImageInput(channels=3))
    options = DumpOptions(
        k=16,
        output=("logits:classes",),
        device=DeviceOptions(name=work.device, autocast=work.autocast, channels_last=True),
        batch_size=work.batch_size,
        temperature=(1.0, 2.0, 4.0),
    )
    dumping = rates(
        {
            "bare": partial(forward_only, teacher, source, options),
            "dump": partial(dump_anew, teacher, source, folder / "gpu", options),
        },
        rounds=rounds,
    )
    training = _bench_student(folder, work, source, module, rounds=rounds)
    report.bar("on a GPU: dump against the bare forward loop", dumping["dump"] / dumping["bare"], at_least=0.97)
    report.bar("on a GPU: stored labels against hard ones", training["stored"] / training["hard"], at_least=0.98)
    report.section(
        "On a GPU",
        f"{work.teacher} and {work.student}, random weights, {len(source):,} images of {work.side} px, batches of "
        f"{work.batch_size}, {work.autocast}, channels last, loader workers by default; samples per second, and "
        "relative to the same without labels.",
        ["work", "samples per second", "relative"],
        [
            ["teacher, bare forward", f"{dumping['bare']:,.0f}", "1.000"],
            ["teacher, dump of K = 16", f"{dumping['dump']:,.0f}", f"{dumping['dump'] / dumping['bare']:.3f}"],
            ["student, hard labels", f"{training['hard']:,.0f}", "1.000"],
            [
                "student, stored labels",
                f"{training['stored']:,.0f}",
                f"{training['stored'] / training['hard']:.3f}",
            ],
            [
                "student, teacher in the loop",
                f"{training['online']:,.0f}",
                f"{training['online'] / training['hard']:.3f}",
            ],
        ],
    )


def _bench_student(
    folder: Path, work: Work, source: RandomImages, teacher: torch.nn.Module, *, rounds: int
) -> dict[str, float]:
    device = choose_device(work.device)

    def ask_teacher(batch: Batch) -> Tensor:
        with torch.inference_mode():
            return logits_of(teacher, batch.inputs[0].inputs, device=device, autocast=work.autocast).known

    store = open_store(folder / "gpu", cache=CacheOptions(dir=folder / "gpu-cache"))
    options = TrainOptions(
        run=RunOptions(batch_size=work.batch_size),
        device=DeviceOptions(name=work.device, autocast=work.autocast, channels_last=True),
        learn=LearnOptions(optimizer=OptimizerOptions(learning_rate=1e-4)),
    )
    steps = StudentSteps(
        "student",
        build_model(ModelOptions(model=work.student)),
        source,
        store,
        options,
        input=ImageInput(channels=3),
    )
    ways = {"hard": steps.hard(), "stored": steps.stored(), "online": steps.hard(beside=ask_teacher)}
    return rates(ways, rounds=rounds)


def small(work: Work) -> Work:
    """Enough to see that it runs."""
    return replace(work, num_images=512, batch_size=64)
