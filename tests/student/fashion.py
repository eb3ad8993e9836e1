"""Real samples, the demo's teacher and its output for them, and short runs of small students."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.sample_check import align
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.models import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.loop import OnProgress
from softlab.student.options import TrainOptions
from softlab.student.run_folder import StudentResult
from softlab.student.train import train_students
from softlab.student.validation import Validation
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.student.flat_options import train_options

DATA = Path(__file__).parents[2] / "data" / "fashion_mnist"
INPUT = ImageInput(mean=(0.2860,), std=(0.3530,))
NUM_TRAIN, NUM_VALID = 300, 120


def fashion(part: Literal["train", "test"] = "train") -> Source:
    """The first samples; they are balanced over the classes."""
    limit = NUM_TRAIN if part == "train" else NUM_VALID
    return open_source(SourceOptions(path=str(DATA / part), limit=limit))


def make_teacher() -> nn.Module:
    return build_model(ModelOptions(model="softlab:grey_resnet", weights=DATA / "teacher.safetensors"))


def dump(out: Path, part: Literal["train", "test"] = "train", **options: Any) -> Path:
    teacher = Teacher(module=make_teacher(), name="softlab:grey_resnet", arguments={}, input=INPUT)
    defaults: dict[str, Any] = {"device": DeviceOptions(name="cpu"), "shard_rows": 128}
    dump_teacher(teacher, fashion(part), out, DumpOptions(**(defaults | options)))
    return out


def make_student(*, seed: int = 0, dropout: float = 0.0) -> nn.Module:
    """A small net with batch normalisation; each seed gives other weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=4, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(8 * 7 * 7, 10),
        )


def make_options(**values: Any) -> TrainOptions:
    """Two epochs of six steps on the CPU, followed by no tracker."""
    defaults: dict[str, Any] = {"epochs": 2, "batch_size": 50, "device": "cpu", "track": ()}
    return train_options(**(defaults | values))


def make_loader(source: Source, store: Store | None = None) -> BatchLoader:
    store_N = None if store is None else align(source, store)
    aligned = Aligned(source=source, inputs=(INPUT,), store=store, store_N=store_N)
    return BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0), keep_decoded=True)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """To the bit, buffers included."""
    weights, others = one.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(weights[name].equal(others[name]) for name in weights)


def train(
    students: nn.Module | Mapping[str, nn.Module],
    store: Store | None = None,
    *,
    valid: Store | bool = False,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> list[StudentResult]:
    """From a store or on hard targets; validated on other samples, with the teacher's output for them or without."""
    validation = Validation(source=fashion("test"), store=valid if isinstance(valid, Store) else None)
    return train_students(
        {"small": students} if isinstance(students, nn.Module) else students,
        fashion(),
        [] if store is None else [store],
        make_options(**options),
        input=INPUT,
        valid=validation if valid else None,
        out=out,
        on_progress=on_progress,
    )


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def all_but_seconds(result: StudentResult, *, name: str | None = None) -> tuple[object, ...]:
    """All of a result but how long it took."""
    measured = (result.last, result.best, result.best_by)
    return (name or result.name, result.num_parameters, result.train_loss, *measured, result.sparsity, result.error)
