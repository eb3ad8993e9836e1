"""A training step with stored labels against the same step with plain hard labels, and with the teacher in the loop."""

from pathlib import Path

import torch
from torch import Tensor

from softlab.bench.interleave import rates
from softlab.bench.kept_images import KeptImages
from softlab.bench.student_steps import StudentSteps
from softlab.loading.batch import Batch
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.options import TrainOptions
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from softlab.views.finishing import Finishing
from tests.benchmarks.report import Report

FINISHING = Finishing(mean=(0.286,), std=(0.353,))


def bench_training(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """The demo's CNN student, batches of 128."""
    module = build_model(
        ModelOptions(model="softlab:grey_resnet", weights=Path("data/fashion_mnist/teacher.safetensors"))
    ).eval()
    teacher = Teacher(module=module, name="softlab:grey_resnet", arguments={}, finishing=FINISHING)
    dump_teacher(teacher, source, folder / "train", DumpOptions(k=5, feature={"pool": "pool"}))
    store = open_store(folder / "train", cache=CacheOptions(dir=folder / "cache"))
    module.to(choose_device("auto"))

    def ask_teacher(batch: Batch) -> Tensor:
        with torch.inference_mode():
            logits_BC: Tensor = module(batch.images_BCHW)
            return logits_BC

    torch.manual_seed(0)
    student = build_model(ModelOptions(model="softlab:grey_cnn"))
    steps = StudentSteps("cnn", student, KeptImages(source), store, TrainOptions(), finishing=FINISHING)
    with_features, layers = steps.stored_and_features() or (None, {})
    assert with_features is not None, "the student has layers like the teacher's"
    found = rates(
        {
            "hard": steps.hard(),
            "stored": steps.stored(),
            "features": with_features,
            "online": steps.hard(beside=ask_teacher),
        },
        rounds=rounds,
    )
    report.section(
        "Training",
        "The demo's CNN student, batches of 128, decoded images in memory, a second of steps a round; samples per "
        "second relative to plain hard labels. Teacher in the loop: one forward pass of the demo's teacher a step.",
        ["labels", "relative rate"],
        [
            ["hard", "1.000"],
            ["stored, K = 5 with tail", f"{found['stored'] / found['hard']:.3f}"],
            [f"stored, and the feature pool learnt by {layers['pool']}", f"{found['features'] / found['hard']:.3f}"],
            ["teacher in the loop", f"{found['online'] / found['hard']:.3f}"],
        ],
    )
