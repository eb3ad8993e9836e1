"""`softlab report`: students of some training runs side by side, as a table, JSON and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from softlab.cli.tables import format_duration, print_table
from softlab.report.compare import ComparedStudent, Spread
from softlab.report.write import REPORT, Report, write_report

NO_VALUE = "-"


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of training runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write the report to.", show_default=False)],
    plots: Annotated[bool, typer.Option(help="Draw PNG pictures; needs softlab[plots].")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Show the students of some training runs side by side, and write report.json, learning curves and sizes.

    Students of several runs that differ in nothing but the seed are averaged.
    """
    made = write_report(runs, out, plots=plots)
    for run in made.runs:
        if not run.is_finished:
            typer.echo(
                f"note: {run.path} is not finished: {run.epochs_done} of {run.num_epochs} epochs are there. "
                f"The same `softlab train-student` command goes on with it.",
                err=True,
            )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(made)).decode())
        return
    _print_accuracies(made.students)
    _print_others(made.students)
    _print_legend(made, out)


def _print_accuracies(students: Sequence[ComparedStudent]) -> None:
    rows = [
        [
            student.label,
            str(len(student.runs)),
            _percent(student.accuracy),
            _percent(student.best_accuracy),
            _percent(student.gain, sign="+"),
            _mean(student.train_loss, ".3f"),
        ]
        for student in students
    ]
    print_table(["student", "runs", "accuracy %", "best %", "gain", "train loss"], rows, title="Accuracy")
    print()


def _print_others(students: Sequence[ComparedStudent]) -> None:
    rows = [
        [
            student.label,
            NO_VALUE if student.num_parameters is None else f"{student.num_parameters:,}",
            NO_VALUE if student.seconds is None else format_duration(student.seconds.mean),
            _percent(student.teacher_agreement),
            _mean(student.teacher_kl, ".4f"),
            _mean(student.teacher_jensen_shannon, ".4f"),
            _mean(student.calibration_error, ".3f"),
        ]
        for student in students
    ]
    headers = ["student", "parameters", "time", "agreement %", "KL", "JS", "ECE"]
    print_table(headers, rows, title="Size, time, closeness to the teacher")
    print()


def _print_legend(made: Report, out: Path) -> None:
    print("accuracy, agreement, KL and Jensen-Shannon (nats), calibration error: validation, after the last epoch.")
    print("best: of the best epoch. gain: accuracy above the same run's NAME-hard, in points.")
    if any(len(student.runs) > 1 for student in made.students):
        print("mean ± standard deviation over the runs.")
    print(f"written to {out}: {', '.join([REPORT, *made.plots])}")


def _percent(spread: Spread | None, *, sign: str = "") -> str:
    if spread is None:
        return NO_VALUE
    deviation = "" if spread.std is None else f" ± {100 * spread.std:.2f}"
    return f"{100 * spread.mean:{sign}.2f}{deviation}"


def _mean(spread: Spread | None, format_spec: str) -> str:
    return NO_VALUE if spread is None else f"{spread.mean:{format_spec}}"
