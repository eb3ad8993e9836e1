"""Pictures with two tasks and an embedding, teachers of them, and students with a head for each."""

# Shape letters: B samples in a batch, N samples, C classes, D numbers of a vector.

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from softlab.store.reader import Store, open_store
from softlab.student.heads.options import HeadOptions
from softlab.student.options import LearnOptions, Student
from softlab.teacher.dump import dump_teacher
from tests.student.flat_options import learn_options
from tests.student.pictures import CLASS_NAMES, NUM_CLASSES, NUM_PICTURES
from tests.teacher.dumping import Pictures, make_teacher
from tests.teacher.dumping import make_options as make_dump_options

NUM_COLOURS, WIDTH = 3, 6
COLOURS = ("red", "green", "blue")
SIZES = {"species": NUM_CLASSES, "colour": NUM_COLOURS, "vector": WIDTH}
ALL = list(range(NUM_PICTURES))

SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0.0,
    "schedule": "constant",
}


@dataclass(frozen=True, kw_only=True)
class Tasks(Pictures):
    """Pictures with two hard targets each."""

    count: int = NUM_PICTURES
    class_names: tuple[str, ...] | None = None

    @property
    def targets(self) -> Mapping[str, NDArray[np.int64]]:
        drawn = np.random.default_rng(self.count)
        return {
            "species": drawn.integers(0, NUM_CLASSES, self.count),
            "colour": drawn.integers(-1, NUM_COLOURS, self.count),
        }

    @property
    def target_class_names(self) -> Mapping[str, tuple[str, ...] | None]:
        return {"species": CLASS_NAMES, "colour": COLOURS}


class TwoTeachers(nn.Module):
    """Several outputs in one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {name: make_teacher(num_classes=size, seed=seed) for seed, (name, size) in enumerate(SIZES.items())}
        )

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        return {name: part(images_BCHW) for name, part in self.parts.items()}


class Headed(nn.Module):
    """A small net with three heads, which it returns in a dict."""

    def __init__(self, *, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 8), nn.Tanh(), nn.Dropout(dropout))
            self.heads = nn.ModuleDict({name: nn.Linear(8, size) for name, size in SIZES.items()})

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        hidden_BD = self.trunk(images_BCHW)
        return {name: head(hidden_BD) for name, head in self.heads.items()}


def dump_both(out: Path, **options: Any) -> Store:
    """One store with the classes `species` and `colour` and the values `vector`."""
    return _dump(TwoTeachers(), out, output=("species", "colour", "vector:values"), **options)


def dump_one(out: Path, name: str, *, output: str | None = None, **options: Any) -> Store:
    """A store of one task alone, by a teacher of its own."""
    kind = ":values" if name == "vector" else ""
    return _dump(TwoTeachers().parts[name], out, output=(f"{output or name}{kind}",), **options)


def student(head: Mapping[str, HeadOptions], *, seed: int = 0, dropout: float = 0.0, **learn: Any) -> Student:
    """With these heads; `learn` as `learn_options` takes it."""
    return Student(module=Headed(seed=seed, dropout=dropout), learn=learn_of(head, **learn))


def learn_of(head: Mapping[str, HeadOptions], **learn: Any) -> LearnOptions:
    return learn_options(**({"learning_rate": 0.01, "head": dict(head)} | learn))


def _dump(module: nn.Module, out: Path, **options: Any) -> Store:
    count, augment = options.pop("count", NUM_PICTURES), options.pop("augment", None)
    values: dict[str, Any] = {"k": None, "coding": "float32", "values_coding": "float32"}
    values |= {"temperature": (1.0, 2.0, 4.0)} | options
    dump_teacher(module, Pictures(count=count, class_names=None), out, make_dump_options(**values), augment=augment)
    return open_store(out)
