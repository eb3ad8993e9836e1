"""Students of some runs side by side; those that differ in nothing but their seed are averaged."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from softlab.errors import InvalidOption
from softlab.report.runs import HARD_SUFFIX, NOT_MEASURED, Epoch, Result, TrainingRun


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in several runs."""

    mean: float
    std: float | None
    """Sample standard deviation (divided by n - 1); None for a single run."""

    values: tuple[float, ...]
    """In the order of the runs."""


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """A student after one epoch."""

    epoch: int
    accuracy: Spread | None
    train_loss: Spread | None


class ComparedStudent(msgspec.Struct, frozen=True, kw_only=True):
    """One student; a figure is None unless each of its runs has it."""

    label: str
    """Its name, with more where one name stands for different things."""

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    is_finished: bool
    num_parameters: int | None
    accuracy: Spread | None
    """On the validation source after the last epoch, as are all others but `best_accuracy`."""

    best_accuracy: Spread | None
    """Of the best epoch."""

    gain: Spread | None
    """Accuracy above that of the student's hard-target baseline in the same run."""

    teacher_agreement: Spread | None
    teacher_kl: Spread | None
    """Nats, as is the next."""

    teacher_jensen_shannon: Spread | None
    calibration_error: Spread | None
    train_loss: Spread | None
    """Of the student's own objective: not to be compared between objectives."""

    seconds: Spread | None
    """Spent in the student's own steps."""

    curve: tuple[CurvePoint, ...]

    @property
    def is_baseline(self) -> bool:
        return self.name.endswith(HARD_SUFFIX)

    @property
    def without_suffix(self) -> str:
        """Equal for a student and its baseline."""
        return self.label.replace(self.name, self.name.removesuffix(HARD_SUFFIX), 1)


Member = tuple[TrainingRun, Result]


def compare_students(runs: Sequence[TrainingRun]) -> tuple[ComparedStudent, ...]:
    """One for each kind of student, in the order of the runs. An unfinished run is averaged with no other.

    Raises InvalidOption for a run that is given twice, which would be averaged with itself.
    """
    paths = Counter(run.path.resolve() for run in runs)
    for run in runs:
        if paths[run.path.resolve()] > 1:
            raise InvalidOption(f"{run.path}: this run is given twice. Give each once.")
    groups: dict[str, list[Member]] = {}
    for run in runs:
        for result in run.results:
            groups.setdefault(_kind(run, result.name), []).append((run, result))
    labels = _labels(list(groups.values()), folders=_folders(runs))
    return tuple(_compare(label, members) for label, members in zip(labels, groups.values(), strict=True))


def spread(values: Iterable[float | None]) -> Spread | None:
    """None unless all values are known and finite."""
    found = tuple(values)
    known = tuple(value for value in found if value is not None and math.isfinite(value))
    if not known or len(known) < len(found):
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return Spread(mean=statistics.fmean(known), std=std, values=known)


def _kind(run: TrainingRun, name: str) -> str:
    """Equal for students of the same settings but the seed, whatever other students their runs have."""
    settings: dict[str, Any] = {key: value for key, value in run.settings.items() if key != "versions"}
    settings["options"] = {key: value for key, value in settings["options"].items() if key != "seed"}
    student = settings["students"].get(name, {})
    settings["students"] = {name: {key: value for key, value in student.items() if key != "initial_weights"}}
    settings["unfinished"] = None if run.is_finished else str(run.path)
    return json.dumps(settings, sort_keys=True)


def _folders(runs: Sequence[TrainingRun]) -> dict[Path, str]:
    """What to call the runs: by the last part of the path where no two share it."""
    names = Counter(run.path.name for run in runs)
    return {run.path: run.path.name if names[run.path.name] == 1 else str(run.path) for run in runs}


def _labels(groups: Sequence[Sequence[Member]], *, folders: Mapping[Path, str]) -> list[str]:
    counts = Counter(members[0][1].name for members in groups)
    labels = []
    for members in groups:
        run, result = members[0]
        label = result.name
        if counts[label] > 1:
            others = f" +{len(members) - 1}" if len(members) > 1 else ""
            label += f" @ {folders[run.path]}{others}"
        labels.append(label if run.is_finished else f"{label} (epoch {run.epochs_done} of {run.num_epochs})")
    return labels


def _compare(label: str, members: Sequence[Member]) -> ComparedStudent:
    results = [result for _, result in members]
    last = [result.last or NOT_MEASURED for result in results]
    best = [result.best or NOT_MEASURED for result in results]
    return ComparedStudent(
        label=label,
        name=results[0].name,
        runs=tuple(str(run.path) for run, _ in members),
        seeds=tuple(run.seed for run, _ in members),
        is_finished=members[0][0].is_finished,
        num_parameters=results[0].num_parameters,
        accuracy=spread(figures.accuracy for figures in last),
        best_accuracy=spread(figures.accuracy for figures in best),
        gain=spread(_gain(run, result) for run, result in members),
        teacher_agreement=spread(figures.teacher_agreement for figures in last),
        teacher_kl=spread(figures.teacher_kl for figures in last),
        teacher_jensen_shannon=spread(figures.teacher_jensen_shannon for figures in last),
        calibration_error=spread(figures.calibration_error for figures in last),
        train_loss=spread(result.train_loss for result in results),
        seconds=spread(result.seconds for result in results),
        curve=_curve([run.epochs.get(result.name, []) for run, result in members]),
    )


def _gain(run: TrainingRun, student: Result) -> float | None:
    for result in run.results:
        if result.name == student.name + HARD_SUFFIX:
            ours, theirs = (student.last or NOT_MEASURED).accuracy, (result.last or NOT_MEASURED).accuracy
            return None if ours is None or theirs is None else ours - theirs
    return None


def _curve(runs: Sequence[Sequence[Epoch]]) -> tuple[CurvePoint, ...]:
    """The epochs that all runs have."""
    by_epoch = [{line.epoch: line for line in lines} for lines in runs]
    shared = sorted(set.intersection(*(set(lines) for lines in by_epoch)))
    return tuple(
        CurvePoint(
            epoch=epoch,
            accuracy=spread((lines[epoch].valid or NOT_MEASURED).accuracy for lines in by_epoch),
            train_loss=spread(lines[epoch].train_loss for lines in by_epoch),
        )
        for epoch in shared
    )
