"""Options of a training run from one list of names, whoever owns them: tests change one or two of many."""

from dataclasses import fields
from typing import Any

from softlab.labels.losses import LOSS_BY_NAME
from softlab.loading.options import CheckOptions
from softlab.models.device import DeviceOptions
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import (
    DistilOptions,
    LearnOptions,
    LogOptions,
    RunOptions,
    TargetOptions,
    TeachersOptions,
    TrainOptions,
)


def train_options(**values: Any) -> TrainOptions:
    """Of a whole run: `train_options(epochs=2, temperature=2.0, device="cpu")`."""
    left = dict(values)
    learn = _learn(left)
    sections = {
        "run": _take(RunOptions, left),
        "distil": _take(DistilOptions, left),
        "device": DeviceOptions(**_own(DeviceOptions, left, first="device")),
        "check": _take(CheckOptions, left),
        "log": _take(LogOptions, left),
    }
    assert not left, f"no such options: {left}"
    return TrainOptions(learn=learn, **sections)


def learn_options(**values: Any) -> LearnOptions:
    """Of one student."""
    left = dict(values)
    learn = _learn(left, own_seed=True)
    assert not left, f"no such options of a student: {left}"
    return learn


def _learn(left: dict[str, Any], *, own_seed: bool = False) -> LearnOptions:
    kind = LOSS_BY_NAME[left.pop("loss", "kl")]
    weight = {"weight": left.pop("teacher_weight")} if "teacher_weight" in left else {}
    seed = {"seed": left.pop("seed")} if own_seed and "seed" in left else {}
    return LearnOptions(
        loss=kind(**_own(kind, left)),
        teachers=TeachersOptions(**_own(TeachersOptions, left), **weight),
        targets=_take(TargetOptions, left),
        optimizer=OptimizerOptions(**_own(OptimizerOptions, left, first="optimizer")),
        **{name: left.pop(name) for name in ("feature", "prune") if name in left},
        **seed,
    )


def _take(kind: Any, left: dict[str, Any]) -> Any:
    return kind(**_own(kind, left))


def _own(kind: Any, left: dict[str, Any], *, first: str = "name") -> dict[str, Any]:
    """The values of these options, taken out; `first` is what a test calls the field `name`."""
    names = [field.name for field in fields(kind)]
    values = {name: left.pop(name) for name in names if name in left and name != "name"}
    return values | ({"name": left.pop(first)} if "name" in names and first in left else {})
