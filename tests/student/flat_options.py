"""Options of a training run from one list of names, whoever owns them: tests change one or two of many."""

from dataclasses import fields
from typing import Any

import torch
from torch import nn

from softlab.labels.losses import LOSS_BY_NAME, DecisionLoss
from softlab.loading.batch import Batch
from softlab.loading.options import CheckOptions
from softlab.models.device import DeviceOptions
from softlab.ranks import ALONE, Ranks
from softlab.student.learner import Learner
from softlab.student.objective import Objective
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


def learner_of(
    module: nn.Module,
    objective: Objective,
    options: TrainOptions,
    *,
    num_steps: int,
    steps_per_epoch: int,
    example: Batch | None = None,
    ranks: Ranks = ALONE,
) -> Learner:
    """A student named small, on the CPU, as a run with these options would train it."""
    return Learner(
        "small",
        module,
        objective,
        optimizer=options.learn.optimizer,
        device=torch.device("cpu"),
        place_on=options.device,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        seed=options.run.seed,
        prune=options.learn.prune,
        example=example,
        ranks=ranks,
    )


def _learn(left: dict[str, Any], *, own_seed: bool = False) -> LearnOptions:
    weight = {"weight": left.pop("teacher_weight")} if "teacher_weight" in left else {}
    seed = {"seed": left.pop("seed")} if own_seed and "seed" in left else {}
    return LearnOptions(
        loss=_loss(left),
        teachers=TeachersOptions(**_own(TeachersOptions, left), **weight),
        targets=_take(TargetOptions, left),
        optimizer=OptimizerOptions(**_own(OptimizerOptions, left, first="optimizer")),
        **{name: left.pop(name) for name in ("feature", "head", "prune", "robust") if name in left},
        **seed,
    )


def _loss(left: dict[str, Any]) -> DecisionLoss:
    """Given as it is, or by name; `alpha` is then that of the teachers, also of a loss that has an alpha too."""
    loss: str | DecisionLoss = left.pop("loss", "kl")
    if not isinstance(loss, str):
        return loss
    kind = LOSS_BY_NAME[loss]
    own = {field.name for field in fields(kind)} - {"alpha"}
    return kind(**{name: left.pop(name) for name in own & left.keys()})


def _take(kind: Any, left: dict[str, Any]) -> Any:
    return kind(**_own(kind, left))


def _own(kind: Any, left: dict[str, Any], *, first: str = "name") -> dict[str, Any]:
    """The values of these options, taken out; `first` is what a test calls the field `name`."""
    names = [field.name for field in fields(kind)]
    values = {name: left.pop(name) for name in names if name in left and name != "name"}
    return values | ({"name": left.pop(first)} if "name" in names and first in left else {})
