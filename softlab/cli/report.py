"""`softlab report`: students of some training runs side by side, as a table, JSON and pictures."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from softlab.amounts import format_duration
from softlab.cli.metric_columns import NO_VALUE, explain_heads, head_of, metrics_among
from softlab.cli.say import say
from softlab.cli.tables import print_columns
from softlab.evaluation.metrics.unit import Unit
from softlab.report.compare import ComparedStudent, Spread
from softlab.report.write import REPORT, Report, write_report

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
    for best_by in dict.fromkeys(student.best_by for student in made.students):
        _print_best([student for student in made.students if student.best_by == best_by], best_by)
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


def _print_best(students: Sequence[ComparedStudent], best_by: str | None) -> None:
    """Those whose best epochs are chosen by one metric."""
    columns = {
        "student": [_wrapped(student.label) for student in students],
        "runs": [str(len(student.runs)) for student in students],
    }
    for metric in metrics_among({best_by}):
        columns[head_of(metric)] = [_figure(student.values.get(metric.name), metric.unit) for student in students]
        columns["best"] = [_figure(student.best, metric.unit) for student in students]
        columns["gain"] = [_figure(student.gain, metric.unit, sign="+") for student in students]
    columns["loss"] = [f"{student.train_loss.mean:.3f}" if student.train_loss else NO_VALUE for student in students]
    title = " by ".join(["Students", *(metric.label for metric in metrics_among({best_by}))])
    print_columns(columns, title=title)
    print()


def _print_others(students: Sequence[ComparedStudent]) -> None:
    columns = {
        "student": [_wrapped(student.label) for student in students],
        "parameters": [
            NO_VALUE if student.num_parameters is None else f"{student.num_parameters:,}" for student in students
        ],
        "time": [
            NO_VALUE if student.seconds is None else format_duration(student.seconds.mean) for student in students
        ],
    }
    shown = {student.best_by for student in students}
    for metric in metrics_among(_known(students) - (shown if len(shown) == 1 else set())):
        columns[head_of(metric)] = [_figure(student.values.get(metric.name), metric.unit) for student in students]
    print_columns(columns, title="Size, time, other metrics")
    print()


def _known(students: Sequence[ComparedStudent]) -> set[str]:
    return {name for student in students for name in student.values}


def _print_errors(students: Sequence[ComparedStudent]) -> None:
    for student in students:
        if student.error is not None:
            say(f"{student.label}: {student.error}")
            print()


def _print_legend(made: Report, out: Path) -> None:
    say("metrics: of the validation source after the last epoch. best: of the best epoch. loss: in training.")
    say("gain: by how much better than the same run's NAME-hard.")
    if explained := explain_heads(metrics_among(_known(made.students))):
        say(explained)
    if any(len(student.runs) > 1 for student in made.students):
        say("mean ± standard deviation over the runs.")
    say(f"written to {out}: {', '.join([REPORT, *made.plots])}")


def _wrapped(label: str) -> str:
    return textwrap.fill(label, LABEL_WIDTH)


def _figure(spread: Spread | None, unit: Unit, *, sign: str = "") -> str:
    if spread is None:
        return NO_VALUE
    deviation = "" if spread.std is None else f" ± {unit.number(spread.std)}"
    return unit.number(spread.mean, sign=sign) + deviation
