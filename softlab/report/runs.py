"""Reads the folder of a training run, finished or not.

run.json                settings of the run and of each student
metrics.jsonl           one line a student and epoch
summary.json            each student's result; only of a finished run
resume/position.json    where a killed run goes on, and which students it has set aside; only of an unfinished one
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from softlab.errors import InvalidOption, suggest
from softlab.evaluation.best import score
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.evaluation.metrics.of_head import metric_named
from softlab.report.run_files import convert, damaged, parse, read_file
from softlab.student.checkpoints import POSITION
from softlab.student.run_folder import METRICS, RESUME, RUN, SUMMARY


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of metrics.jsonl: of an epoch, or of some steps where the run wrote those too."""

    student: str
    step_loss: float | None = None


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One student after one epoch: a line of metrics.jsonl."""

    student: str
    epoch: int
    """From 1."""

    train_loss: float
    valid: Evaluation | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One student after its last epoch, or after the last one so far."""

    name: str
    num_parameters: int | None = None
    """Unknown in an unfinished run, as are the seconds."""

    train_loss: float | None = None
    last: Evaluation | None = None
    """None for a student that was set aside, too."""

    best: Evaluation | None = None
    epochs: int | None = None
    """After which it stopped, where that was early."""

    seconds: float | None = None
    error: str | None = None
    """Why the student was set aside, if it was."""


class _Run(msgspec.Struct, frozen=True):
    epochs: int
    seed: int


class _Student(msgspec.Struct, frozen=True):
    initial_weights: str
    seed: int


class _Settings(msgspec.Struct, frozen=True):
    """What must be in run.json; the rest is compared, not interpreted."""

    run: _Run
    best_by: str | None
    students: dict[str, _Student]

    @property
    def student_seeds(self) -> dict[str, int]:
        return {name: student.seed for name, student in self.students.items()}


class _Position(msgspec.Struct, frozen=True):
    errors: dict[str, str] = {}
    """By student: why it was set aside."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainingRun:
    """One run's folder."""

    path: Path
    settings: dict[str, Any]
    """All of run.json."""

    seed: int
    student_seeds: dict[str, int]
    """By student: the run's, or its own."""

    initial_weights: dict[str, str]
    """By student: their fingerprint."""

    best_by: str | None
    """The metric that makes an epoch the best; None where nothing is measured."""

    num_epochs: int
    """That the run is to have."""

    is_finished: bool
    results: tuple[Result, ...]
    """In the order in which the students were given, baselines last."""

    epochs: dict[str, list[Epoch]]
    """By student."""

    @property
    def epochs_done(self) -> int:
        return max(map(self.epochs_of, self.epochs), default=0)

    def epochs_of(self, student: str) -> int:
        """How many it has done."""
        return _last_epoch(self.epochs[student])


def read_run(path: str | Path) -> TrainingRun:
    """What is there of a run. Raises InvalidOption for a folder that is none, and for files that can't be read or don't
    belong together."""
    path = Path(path)
    text, summary = read_file(path / RUN), read_file(path / SUMMARY)
    if text is None:
        raise InvalidOption(
            f"{path}: no {RUN} here, so this is not a training run. Give the `out` folder of `softlab train-student`."
        )
    settings = parse(text, dict[str, Any], where=path / RUN)
    known = convert(settings, _Settings, where=path / RUN)
    _check_metric(known.best_by, where=path / RUN)
    epochs = _read_epochs(path, students=known.students, is_finished=summary is not None)
    if summary is None:
        results = _results_so_far(epochs, errors=_read_errors(path), best_by=known.best_by)
    else:
        results = parse(summary, tuple[Result, ...], where=path / SUMMARY)
        _check_complete(path, results, epochs, num_epochs=known.run.epochs)
    return TrainingRun(
        path=path,
        settings=settings,
        seed=known.run.seed,
        student_seeds=known.student_seeds,
        initial_weights={name: student.initial_weights for name, student in known.students.items()},
        best_by=known.best_by,
        num_epochs=known.run.epochs,
        is_finished=summary is not None,
        results=results,
        epochs=epochs,
    )


def _read_epochs(path: Path, *, students: Mapping[str, _Student], is_finished: bool) -> dict[str, list[Epoch]]:
    *lines, rest = (read_file(path / METRICS) or b"").split(b"\n")
    if rest and is_finished:  # otherwise the run is writing it, or was killed then
        lines.append(rest)
    epochs: dict[str, list[Epoch]] = {name: [] for name in students}
    for number, text in enumerate(lines, start=1):
        where = f"{path / METRICS}, line {number}"
        line = parse(text, _Line, where=where)
        _check_known(line.student, epochs, where=path / METRICS)
        if line.step_loss is None:
            epochs[line.student].append(parse(text, Epoch, where=where))
    return epochs


def _read_errors(path: Path) -> dict[str, str]:
    """Of the students that an unfinished run has set aside."""
    position = path / RESUME / POSITION
    return parse(read_file(position) or b"{}", _Position, where=position).errors


def _results_so_far(
    epochs: Mapping[str, list[Epoch]], *, errors: Mapping[str, str], best_by: str | None
) -> tuple[Result, ...]:
    return tuple(_result_so_far(name, lines, error=errors.get(name), best_by=best_by) for name, lines in epochs.items())


def _result_so_far(name: str, epochs: Sequence[Epoch], *, error: str | None, best_by: str | None) -> Result:
    measured = [line.valid for line in epochs if line.valid is not None]
    return Result(
        name=name,
        train_loss=epochs[-1].train_loss if epochs else None,
        last=measured[-1] if measured and error is None else None,
        best=None if best_by is None else max(measured, key=lambda valid: score(valid, by=best_by), default=None),
        error=error,
    )


def _check_metric(name: str | None, *, where: Path) -> None:
    if name is not None and metric_named(name) is None:
        raise InvalidOption(
            f"{where}: best_by is {name}, which is no metric of this softlab. {suggest(name, METRIC_BY_NAME)} Make the "
            f"report with the softlab that made the run, or leave the run out."
        )


def _check_known(student: str, known: Collection[str], *, where: Path) -> None:
    if student not in known:
        raise damaged(where, f"is about a student {student}, whom {RUN} does not name")


def _last_epoch(epochs: Sequence[Epoch]) -> int:
    return epochs[-1].epoch if epochs else 0


def _check_complete(
    path: Path, results: Sequence[Result], epochs: Mapping[str, Sequence[Epoch]], *, num_epochs: int
) -> None:
    """Raises InvalidOption if lines are missing that a finished run has, or results are of another run."""
    for result in results:
        _check_known(result.name, epochs, where=path / SUMMARY)
        last, expected = _last_epoch(epochs[result.name]), result.epochs or num_epochs
        if result.error is None and last < expected:
            raise damaged(
                path / METRICS, f"ends at epoch {last} of {expected} for {result.name}, but the run is finished"
            )
