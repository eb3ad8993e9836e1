"""Reads the folder of a training run, finished or not.

run.json         settings of the run and of each student
metrics.jsonl    one line a student and epoch
summary.json     each student's result; only of a finished run
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from softlab.errors import InvalidOption

RUN, METRICS, SUMMARY = "run.json", "metrics.jsonl", "summary.json"

HARD_SUFFIX = "-hard"
"""Of the name of a student's hard-target baseline."""

Read = TypeVar("Read")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How good a student is on the validation source; None where that was not measured."""

    accuracy: float | None = None
    teacher_agreement: float | None = None
    teacher_kl: float | None = None
    teacher_jensen_shannon: float | None = None
    calibration_error: float | None = None


NOT_MEASURED = Figures()


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One student after one epoch: a line of metrics.jsonl."""

    student: str
    epoch: int
    """From 1."""

    train_loss: float
    valid: Figures | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One student after its last epoch, or after the last one so far."""

    name: str
    num_parameters: int | None = None
    """Unknown in an unfinished run, as are the seconds."""

    train_loss: float | None = None
    last: Figures | None = None
    best: Figures | None = None
    seconds: float | None = None


class _Options(msgspec.Struct, frozen=True):
    epochs: int
    seed: int


class _Settings(msgspec.Struct, frozen=True):
    """What must be in run.json; the rest is compared, not interpreted."""

    options: _Options
    students: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainingRun:
    """One run's folder."""

    path: Path
    settings: dict[str, Any]
    """All of run.json."""

    seed: int
    num_epochs: int
    """That the run is to have."""

    is_finished: bool
    results: tuple[Result, ...]
    """In the order in which the students were given, baselines last."""

    epochs: dict[str, list[Epoch]]
    """By student."""

    @property
    def epochs_done(self) -> int:
        return max((line.epoch for lines in self.epochs.values() for line in lines), default=0)


def read_run(path: str | Path) -> TrainingRun:
    """What is there of a run. Raises InvalidOption for a folder that is none, and for a file that can't be read."""
    path = Path(path)
    if not (path / RUN).exists():
        raise InvalidOption(
            f"{path}: no {RUN} here, so this is not a training run. Give the --out folder of `softlab train-student`."
        )
    settings = _parse((path / RUN).read_bytes(), dict[str, Any], where=str(path / RUN))
    known = _convert(settings, _Settings, where=str(path / RUN))
    is_finished = (path / SUMMARY).exists()
    epochs: dict[str, list[Epoch]] = {name: [] for name in known.students}
    for line in _read_metrics(path, is_finished=is_finished):
        epochs.setdefault(line.student, []).append(line)
    if is_finished:
        results = _parse((path / SUMMARY).read_bytes(), tuple[Result, ...], where=str(path / SUMMARY))
    else:
        results = tuple(_result_so_far(name, lines) for name, lines in epochs.items())
    return TrainingRun(
        path=path,
        settings=settings,
        seed=known.options.seed,
        num_epochs=known.options.epochs,
        is_finished=is_finished,
        results=results,
        epochs=epochs,
    )


def _read_metrics(path: Path, *, is_finished: bool) -> list[Epoch]:
    if not (path / METRICS).exists():
        return []
    *lines, rest = (path / METRICS).read_bytes().split(b"\n")
    if rest and is_finished:  # otherwise the run is writing it, or was killed then
        lines.append(rest)
    return [_parse(line, Epoch, where=f"{path / METRICS}, line {number}") for number, line in enumerate(lines, 1)]


def _result_so_far(name: str, epochs: list[Epoch]) -> Result:
    measured = [line.valid for line in epochs if line.valid is not None]
    return Result(
        name=name,
        train_loss=epochs[-1].train_loss if epochs else None,
        last=measured[-1] if measured else None,
        best=max(measured, key=_score, default=None),
    )


def _score(figures: Figures) -> float:
    return (figures.teacher_agreement or 0.0) if figures.accuracy is None else figures.accuracy


def _parse(text: bytes, kind: type[Read], *, where: str) -> Read:
    try:
        value = json.loads(text)  # msgspec's own parser takes no NaN, which a student in trouble has
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, f"not valid JSON: {error}") from error
    return _convert(value, kind, where=where)


def _convert(value: Any, kind: type[Read], *, where: str) -> Read:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _unreadable(where, f"not what a training run writes: {error}") from error


def _unreadable(where: str, what: str) -> InvalidOption:
    return InvalidOption(f"{where}: {what}. Get this file again from where the run was made, or leave the run out.")
