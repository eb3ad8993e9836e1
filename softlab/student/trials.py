"""Students that are tried with different options on a validation source, and how good each turned out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from softlab.errors import TrainingFailed
from softlab.evaluation.best import score
from softlab.labels.losses import DecisionLoss, LossName, LossOnValues, StudentLoss, has_temperature, make_loss
from softlab.store.reader import Store
from softlab.student.options import LearnOptions, Student
from softlab.student.run_folder import StudentResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One student that was tried."""

    learn: LearnOptions
    result: StudentResult
    score: float
    """On the validation source after the last epoch, by the metric of `best_by`. Higher is better, so that a metric of
    which less is better has its sign changed; -inf for one that failed."""


def stored_temperatures(stores: Sequence[Store]) -> list[float]:
    """A tail can't be rebuilt below the lowest temperature of its store."""
    lowest = max(min(store.temperatures) for store in stores)
    return sorted({temperature for store in stores for temperature in store.temperatures if temperature >= lowest})


def loss_at(loss: StudentLoss, *, name: LossName, temperature: float) -> DecisionLoss:
    """The loss of that name at a temperature, where it has one; with the options of the given one if it is the same."""
    named = make_loss(name) if isinstance(loss, LossOnValues) or loss.name != name else loss
    if not has_temperature(named):
        return named
    change: Any = {"temperature": temperature}
    return replace(named, **change)


def all_failed(students: Mapping[str, Student], error: TrainingFailed) -> list[StudentResult]:
    """What a pass comes to in which no trial was left: the next ones may do better."""
    return [
        StudentResult(
            name=name,
            num_parameters=sum(parameter.numel() for parameter in student.module.parameters()),
            train_loss=None,
            last=None,
            best=None,
            best_by=None,
            seconds=0.0,
            error=str(error),
        )
        for name, student in students.items()
    ]


def score_of(result: StudentResult) -> float:
    """As `Trial.score`."""
    if result.error is not None or result.best_by is None:
        return -math.inf
    return score(result.last, by=result.best_by)
