"""`softlab report`: students of some training runs side by side, as a table, JSON and pictures."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from softlab.cli.tables import format_duration, print_table
from softlab.report.compare import ComparedStudent, Spread
from softlab.report.write import REPORT, Report, write_report

NO_VALUE = "-"

LABEL_WIDTH = 22
"""Letters in a line; a longer label goes on in the next, so that figures have room in 80 columns."""


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of training runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write the report to.", show_default=False)],
    plots: Annotated[bool, typer.Option(help=escape("Draw PNG pictures; needs softlab[plots]."))] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Show the students of some training runs side by side, and write that as JSON and as pictures.

    Students of several runs that differ in nothing but the seed are averaged.
    """
    made = write_report(runs, out, plots=plots)
    _note_unfinished(made)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(made)).decode())
        return
    _print_accuracies(made.students)
    _print_others(made.students)
    _print_errors(made.students)
    _print_legend(made, out)


def _note_unfinished(made: Report) -> None:
    for run in made.runs:
        if not run.is_finished:
            typer.echo(
                f"note: {run.path} is not finished: {run.epochs_done} of {run.num_epochs} epochs are there. "
                f"The command that began it goes on with it.",
                err=True,
            )


def _print_accuracies(students: Sequence[ComparedStudent]) -> None:
    rows = [
        [
            _wrapped(student.label),
            str(len(student.runs)),
            _percent(student.accuracy),
            _percent(student.best_accuracy),
            _percent(student.gain, sign="+"),
            _mean(student.train_loss, ".3f"),
        ]
        for student in students
    ]
    print_table(["student", "runs", "accuracy %", "best %", "gain", "loss"], rows, title="Accuracy")
    print()


def _print_others(students: Sequence[ComparedStudent]) -> None:
    rows = [
        [
            _wrapped(student.label),
            NO_VALUE if student.num_parameters is None else f"{student.num_parameters:,}",
            NO_VALUE if student.seconds is None else format_duration(student.seconds.mean),
            _percent(student.teacher_agreement),
            _mean(student.teacher_kl, "z.4f"),
            _mean(student.teacher_jensen_shannon, "z.4f"),
            _mean(student.calibration_error, ".2%"),
        ]
        for student in students
    ]
    headers = ["student", "parameters", "time", "agreement %", "KL", "JS", "ECE"]
    print_table(headers, rows, title="Size, time, closeness to the teacher")
    print()


def _print_errors(students: Sequence[ComparedStudent]) -> None:
    for student in students:
        if student.error is not None:
            print(f"{student.label}: {student.error}\n")


def _print_legend(made: Report, out: Path) -> None:
    print("accuracy, agreement, KL and Jensen-Shannon (nats), calibration error: validation, after the last epoch.")
    print("best: of the best epoch. gain: accuracy above the same run's NAME-hard, in points. loss: in training.")
    for accuracy in sorted({_percent(student.teacher_accuracy) for student in made.students} - {NO_VALUE}):
        print(f"the teacher's accuracy on the validation source: {accuracy} %.")
    if any(len(student.runs) > 1 for student in made.students):
        print("mean ± standard deviation over the runs.")
    print(f"written to {out}: {', '.join([REPORT, *made.plots])}")


def _wrapped(label: str) -> str:
    return textwrap.fill(label, LABEL_WIDTH)


def _percent(spread: Spread | None, *, sign: str = "") -> str:
    if spread is None:
        return NO_VALUE
    deviation = "" if spread.std is None else f" ± {100 * spread.std:.2f}"
    return f"{100 * spread.mean:{sign}.2f}{deviation}"


def _mean(spread: Spread | None, format_spec: str) -> str:
    return NO_VALUE if spread is None else f"{spread.mean:{format_spec}}"
