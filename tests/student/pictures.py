"""Short runs on pictures in memory, taught by small teachers: milliseconds each, where the data don't matter."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from softlab.loading.batch import Batch
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.reader import Store, open_store
from softlab.student.loop import OnProgress, TrainProgress
from softlab.student.options import LearnOptions, Student, TrainOptions
from softlab.student.run_folder import StudentResult
from softlab.student.train import train_students
from softlab.student.validation import Validation
from softlab.teacher.dump import dump_teacher
from tests.modalities.images.batches import collated
from tests.student.flat_options import learn_options, train_options
from tests.teacher.dumping import Pictures, make_teacher
from tests.teacher.dumping import make_options as make_dump_options

NUM_CLASSES = 5
NUM_PICTURES = 24
CLASS_NAMES = ("ant", "bee", "cat", "dog", "elk")

FEATURES = {"map": "conv", "mean": "conv:mean", "pixels": "flatten"}
"""Stored ones: [2, 4, 6], [2] and [48] for a picture."""


def pictures(*, count: int = NUM_PICTURES, class_names: tuple[str, ...] | None = CLASS_NAMES) -> Pictures:
    """With targets in no order."""
    targets_N = np.random.default_rng(count).integers(0, NUM_CLASSES, count)
    return Pictures(count=count, class_names=class_names, targets_N=targets_N)


def make_store(
    out: Path,
    *,
    seed: int = 0,
    num_classes: int = NUM_CLASSES,
    source: Pictures | None = None,
    augment: ViewRecipe | None = None,
    **options: Any,
) -> Store:
    """What the teacher of that seed says about the pictures; by default all classes in float32."""
    values: dict[str, Any] = {"k": num_classes, "coding": "float32", "temperature": (1.0, 2.0, 4.0)} | options
    teacher = make_teacher(num_classes=num_classes, seed=seed)
    dump_teacher(teacher, source or pictures(), out, make_dump_options(**values), augment=augment)
    return open_store(out)


def make_student(
    *, seed: int = 0, dropout: float = 0.0, batch_norm: bool = True, num_classes: int = NUM_CLASSES
) -> nn.Sequential:
    """A small net whose layers have names; each seed gives other weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[tuple[str, nn.Module]] = [
            ("conv", nn.Conv2d(3, 4, 3, padding=1)),
            ("norm", nn.BatchNorm2d(4) if batch_norm else nn.Identity()),
            ("relu", nn.ReLU()),
            ("flatten", nn.Flatten()),
            ("hidden", nn.Linear(4 * 4 * 6, 8)),
            ("dropout", nn.Dropout(dropout)),
            ("classifier", nn.Linear(8, num_classes)),
        ]
        return nn.Sequential(OrderedDict(layers))


def feature_batch() -> Batch:
    """Six images of noise, and features that nobody gave; `values` is also a method of what holds the projectors."""
    shapes = {"map": (2, 4, 6), "mean": (2,), "same": (4,), "values": (2,)}
    return Batch(
        source_B=torch.arange(6),
        views_B=torch.zeros(6, dtype=torch.int64),
        inputs=(collated(torch.randn(6, 3, 4, 6, generator=torch.Generator().manual_seed(0))),),
        content_hashes=(),
        targets_B=torch.arange(6) % NUM_CLASSES,
        features={name: torch.zeros(6, *shape) for name, shape in shapes.items()},
    )


def make_options(**values: Any) -> TrainOptions:
    """Three epochs of three steps on the CPU, followed by no tracker."""
    defaults: dict[str, Any] = {"epochs": 3, "batch_size": 8, "device": "cpu", "track": (), "learning_rate": 0.01}
    return train_options(**(defaults | values))


def make_learn(**values: Any) -> LearnOptions:
    """What a student of such a run has of its own."""
    return learn_options(**({"learning_rate": 0.01} | values))


def train(
    students: nn.Module | Mapping[str, nn.Module | Student],
    stores: Store | Sequence[Store] = (),
    *,
    source: Pictures | None = None,
    valid: Store | bool = False,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> list[StudentResult]:
    """Validated, if at all, on the pictures themselves."""
    source = source or pictures()
    validation = Validation(source=source, store=valid if isinstance(valid, Store) else None) if valid else None
    return train_students(
        {"small": students} if isinstance(students, nn.Module) else students,
        source,
        [stores] if isinstance(stores, Store) else stores,
        make_options(**options),
        valid=validation,
        out=out,
        on_progress=on_progress,
    )


def stop_at(step: int) -> OnProgress:
    """A Ctrl-C after so many steps."""

    def on_progress(progress: TrainProgress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return on_progress


def train_interrupted(
    make: Callable[[], Mapping[str, nn.Module | Student]], stores: Store | Sequence[Store], *, out: Path, **run: Any
) -> tuple[Mapping[str, nn.Module | Student], list[StudentResult]]:
    """Students made twice, stopped in the middle of an epoch after a checkpoint in it, and trained to the end."""
    try:
        train(make(), stores, out=out, on_progress=stop_at(5), checkpoint_steps=4, **run)
    except KeyboardInterrupt:
        students = make()
        return students, train(students, stores, out=out, checkpoint_steps=4, **run)
    raise AssertionError("the run was not interrupted")
