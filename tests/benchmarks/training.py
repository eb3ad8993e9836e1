"""A training step with stored labels against the same step with plain hard labels, and with the teacher in the loop."""

from pathlib import Path

import torch
from torch import nn

from softlab.labels.losses import DecisionLoss
from softlab.loading.alignment import align
from softlab.loading.batches import Aligned, BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.learner import Learner
from softlab.student.objective import HARD_TARGETS, Objective
from softlab.student.options import TrainOptions
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from softlab.views.finishing import Finishing
from tests.benchmarks.interleave import rates
from tests.benchmarks.report import Report

FINISHING = Finishing(mean=(0.286,), std=(0.353,))
STEPS = 100


def bench_training(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """The demo's CNN student, batches of 128."""
    module = build_model(
        ModelOptions(model="softlab:grey_resnet", weights=Path("data/fashion_mnist/teacher.safetensors"))
    ).eval()
    teacher = Teacher(module=module, name="softlab:grey_resnet", arguments={}, finishing=FINISHING)
    dump_teacher(teacher, source, folder / "train", DumpOptions(k=5))
    store = open_store(folder / "train", cache=CacheOptions(dir=folder / "cache"))
    hard = Aligned(source=source, finishing=FINISHING)
    stored = Aligned(source=source, finishing=FINISHING, store=store, store_numbers_N=align(source, store))
    found = rates(
        {
            "hard": _Steps(hard, HARD_TARGETS),
            "stored": _Steps(stored, Objective(alpha=0.9, loss=DecisionLoss(temperature=4.0))),
            "online": _Steps(hard, HARD_TARGETS, teacher=module),
        },
        rounds=rounds,
    )
    report.section(
        "Training",
        f"The demo's CNN student, batches of 128, {STEPS} steps a round, decoded images in memory; samples per second "
        "relative to plain hard labels. Teacher in the loop: one forward pass of the demo's teacher a step.",
        ["labels", "relative rate"],
        [
            ["hard", "1.000"],
            ["stored, K = 5 with tail", f"{found['stored'] / found['hard']:.3f}"],
            ["teacher in the loop", f"{found['online'] / found['hard']:.3f}"],
        ],
    )


class _Steps:
    """Some training steps whenever it is called; decoded images are kept between calls."""

    def __init__(self, aligned: Aligned, objective: Objective, *, teacher: nn.Module | None = None) -> None:
        self._device = choose_device("auto")
        self._teacher = None if teacher is None else teacher.to(self._device)
        self._loader = BatchLoader(aligned, device=self._device, options=LoaderOptions(workers=0), keep_decoded=True)
        torch.manual_seed(0)
        student = build_model(ModelOptions(model="softlab:grey_cnn"))
        self._learner = Learner(
            "student", student, objective, TrainOptions(), device=self._device, num_steps=STEPS, steps_per_epoch=STEPS
        )

    def __call__(self) -> int:
        order = ShuffledBatches(num_samples=len(self._loader.aligned.source), batch_size=128, epochs=10, seed=0)
        for step, batch in enumerate(self._loader.load(list(order)[:STEPS])):
            on_device = batch.to(self._device)
            if self._teacher is not None:
                with torch.inference_mode():
                    self._teacher(on_device.images_BCHW)
            self._learner.step(on_device, step=step)
        self._learner.take_mean_loss(step=STEPS)
        return STEPS * 128
