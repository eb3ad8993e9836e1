"""A training step with stored labels against the same step with plain hard labels, and with the teacher in the loop."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from softlab.bench.student_steps import StudentSteps
from softlab.bench.timing import rates
from softlab.loading.batch import Batch
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.options import TrainOptions
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report
from tests.modalities.images.batches import images_in

STORED = "stored, K = 5 with tail"
TURN_S, TURNS = 0.25, 5
"""Many short turns a round but the first: the speed of a shared machine changes by more than what labels cost."""

MEAN, STD = (0.286,), (0.353,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A student and its input."""

    title: str
    student: ModelOptions
    input: ImageInput


CASES = (
    Case(
        title="the demo's CNN, 24 k parameters, 28 px",
        student=ModelOptions(model="softlab:grey_cnn"),
        input=ImageInput(mean=MEAN, std=STD),
    ),
    Case(
        title="mobilenet_v3_small, 64 px",
        student=ModelOptions(model="torchvision:mobilenet_v3_small", arguments={"num_classes": 10}),
        input=ImageInput(size=(64, 64), channels=3, mean=MEAN, std=STD),
    ),
)


def bench_training(report: Report, folder: Path, source: Source, *, rounds: int, only_small: bool = False) -> None:
    """Batches of 128; `only_small` for the smallest student alone."""
    input = CASES[0].input
    module = build_model(
        ModelOptions(model="softlab:grey_resnet", weights=Path("data/fashion_mnist/teacher.safetensors"))
    ).eval()
    teacher = Teacher(module=module, name="softlab:grey_resnet", arguments={}, input=input)
    dump_teacher(teacher, source, folder / "train", DumpOptions(k=5, feature={"pool": "pool"}))
    store = open_store(folder / "train", cache=CacheOptions(dir=folder / "cache"))
    module.to(choose_device("auto"))

    def ask_teacher(batch: Batch) -> Tensor:
        images_BCHW = images_in(batch)[:, :1, ::2, ::2] if images_in(batch).shape[2] == 64 else images_in(batch)
        with torch.inference_mode():
            logits_BC: Tensor = module(images_BCHW)
            return logits_BC

    rows = []
    for case in CASES[:1] if only_small else CASES:
        torch.manual_seed(0)
        student = build_model(case.student)
        steps = StudentSteps("student", student, source, store, TrainOptions(), input=case.input, turn_s=TURN_S)
        with_features, layers = steps.stored_and_features() or (None, {})
        ways: dict[str, Callable[[], int]] = {
            "hard labels": steps.hard(),
            STORED: steps.stored(),
            "teacher in the loop": steps.hard(beside=ask_teacher),
        }
        if with_features is not None:
            ways[f"stored, and the feature pool learnt by {layers['pool']}"] = with_features
        found = rates(ways, rounds=TURNS * (rounds - 1) + 1)
        hard, stored, online = (found[way] for way in ("hard labels", STORED, "teacher in the loop"))
        report.bar(f"training on stored labels against hard ones: {case.title}", stored / hard, at_least=0.98)
        if case is CASES[0]:  # whose step costs less than a quarter of the teacher's forward pass
            report.bar(f"stored labels against the teacher in the loop: {case.title}", stored / online, at_least=2.5)
        rows += [[case.title, way, f"{found[way]:,.0f}", f"{found[way] / hard:.3f}"] for way in ways]
    report.section(
        "Training",
        "Batches of 128, decoded images in memory, many short turns; samples per second, and relative to "
        "plain hard labels. Teacher in the loop: a forward pass of the demo's teacher (464 k parameters, 28 or 32 px) "
        "a step, and no loss on what it says.",
        ["student", "labels", "samples per second", "relative"],
        rows,
    )
