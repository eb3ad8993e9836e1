"""Students of some runs side by side; those that differ in nothing but their seed are averaged."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from softlab.errors import InvalidOption, readable
from softlab.evaluation.best import score
from softlab.evaluation.evaluation import Evaluation
from softlab.report.kinds import Member, group_by_kind
from softlab.report.runs import Epoch, Result, TrainingRun
from softlab.student.objectives import HARD_SUFFIX


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
    values: dict[str, Spread]
    """Of the metrics that all runs have."""

    train_loss: Spread | None


class ComparedStudent(msgspec.Struct, frozen=True, kw_only=True):
    """One student; a figure is None unless each of its runs has it."""

    label: str
    """Its name, with the run where one name stands for several students, and whether it is set aside or unfinished."""

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    is_finished: bool
    """Its run has done all epochs."""

    error: str | None
    """Why it was set aside, if it was."""

    num_parameters: int | None
    values: dict[str, Spread]
    """By metric, on the validation source after the last epoch; those that each of its runs has, none if set aside."""

    best_by: str | None
    """The metric that made an epoch the best; None without validation."""

    best: Spread | None
    """That metric in the best epoch."""

    gain: Spread | None
    """By how much that metric is better than for the student's hard-target baseline in the same run, last epochs."""

    train_loss: Spread | None
    """Of the student's own objective, over its last epoch: not to be compared between objectives."""

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


def compare_students(runs: Sequence[TrainingRun]) -> tuple[ComparedStudent, ...]:
    """One for each kind of student, in the order of the runs; see `group_by_kind`.

    Raises InvalidOption for a run that is given twice, which would be averaged with itself.
    """
    paths = Counter(run.path.resolve() for run in runs)
    for run in runs:
        if paths[run.path.resolve()] > 1:
            raise InvalidOption(f"{run.path}: this run is given twice. Give each once.")
    groups = group_by_kind(runs)
    labels = _labels(groups, folders=_folders(runs))
    return tuple(_compare(label, members) for label, members in zip(labels, groups, strict=True))


def spread(values: Iterable[float | None]) -> Spread | None:
    """None unless all values are known and finite."""
    found = tuple(values)
    known = tuple(value for value in found if value is not None and math.isfinite(value))
    if not known or len(known) < len(found):
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return Spread(mean=statistics.fmean(known), std=std, values=known)


def _folders(runs: Sequence[TrainingRun]) -> dict[Path, str]:
    """What to call the runs: by the last part of the path where no two share it."""
    names = {run.path: readable(run.path.absolute().name) for run in runs}
    counts = Counter(names[run.path] for run in runs)
    return {path: name if counts[name] == 1 else readable(path) for path, name in names.items()}


def _labels(groups: Sequence[Sequence[Member]], *, folders: Mapping[Path, str]) -> list[str]:
    counts = Counter(members[0][1].name for members in groups)
    labels = []
    for members in groups:
        run, result = members[0]
        others = f" +{len(members) - 1}" if len(members) > 1 else ""
        where = f" @ {folders[run.path]}{others}" if counts[result.name] > 1 else ""
        labels.append(result.name + where + _state(run, result))
    return labels


def _state(run: TrainingRun, result: Result) -> str:
    """Of a student without a last epoch."""
    if result.error is None and run.is_finished:
        return ""
    done = f"{run.epochs_of(result.name)} of {run.num_epochs} epochs"
    return f" ({done})" if result.error is None else f" (set aside after {done})"


def _compare(label: str, members: Sequence[Member]) -> ComparedStudent:
    results = [result for _, result in members]
    best_by = members[0][0].best_by
    return ComparedStudent(
        label=label,
        name=results[0].name,
        runs=tuple(readable(run.path) for run, _ in members),
        seeds=tuple(run.student_seeds[result.name] for run, result in members),
        is_finished=members[0][0].is_finished,
        error=results[0].error,
        num_parameters=results[0].num_parameters,
        values=_spreads([result.last for result in results]),
        best_by=best_by,
        best=None if best_by is None else _spreads([result.best for result in results]).get(best_by),
        gain=spread(_gain(run, result) for run, result in members),
        train_loss=spread(result.train_loss for result in results),
        seconds=spread(result.seconds for result in results),
        curve=_curve([run.epochs[result.name] for run, result in members]),
    )


def _spreads(measured: Sequence[Evaluation | None]) -> dict[str, Spread]:
    """By metric, where all have it."""
    values = [{} if each is None else each.values for each in measured]
    spreads = {name: spread(each.get(name) for each in values) for name in values[0]}
    return {name: found for name, found in spreads.items() if found is not None}


def _gain(run: TrainingRun, student: Result) -> float | None:
    """Not finite where one of the two was not measured."""
    if run.best_by is None:
        return None
    last = {result.name: result.last for result in run.results}
    ours, theirs = last[student.name], last.get(student.name + HARD_SUFFIX)
    return score(ours, by=run.best_by) - score(theirs, by=run.best_by)


def _curve(runs: Sequence[Sequence[Epoch]]) -> tuple[CurvePoint, ...]:
    """The epochs that all runs have."""
    by_epoch = [{line.epoch: line for line in lines} for lines in runs]
    shared = sorted(set.intersection(*(set(lines) for lines in by_epoch)))
    return tuple(
        CurvePoint(
            epoch=epoch,
            values=_spreads([lines[epoch].valid for lines in by_epoch]),
            train_loss=spread(lines[epoch].train_loss for lines in by_epoch),
        )
        for epoch in shared
    )
