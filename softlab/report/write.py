"""Makes the report of some training runs and writes it to a folder."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from softlab.disk import remove
from softlab.errors import readable
from softlab.report.compare import ComparedStudent, compare_students
from softlab.report.plots import check_can_plot, draw_against_parameters, draw_learning_curves
from softlab.report.runs import TrainingRun, read_run
from softlab.store.files import write_files

REPORT, CURVES, SIZES = "report.json", "learning_curves.png", "against_parameters.png"
PICTURES = (CURVES, SIZES)


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One of the runs."""

    path: str
    seed: int
    is_finished: bool
    epochs_done: int
    num_epochs: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What report.json holds."""

    runs: tuple[RunFacts, ...]
    students: tuple[ComparedStudent, ...]
    plots: tuple[str, ...]
    """Files beside report.json; one that has nothing to show is not drawn."""


def write_report(runs: Sequence[str | Path], out: str | Path, *, plots: bool = True) -> Report:
    """The students of some training runs side by side, those that differ only in their seed averaged.

    Writes report.json and, with `plots`, two PNG files; an older report in the folder is replaced. Raises InvalidOption
    for a folder that is no training run or can't be read, and where plots are wanted without matplotlib.
    """
    if plots:
        check_can_plot()
    read = [read_run(path) for path in runs]
    students = compare_students(read)
    drawn = _draw(students) if plots else {}
    report = Report(runs=tuple(map(_facts, read)), students=students, plots=tuple(drawn))
    files = drawn | {REPORT: msgspec.json.format(msgspec.json.encode(report)) + b"\n"}
    write_files(Path(out), files)
    remove(Path(out), [name for name in PICTURES if name not in drawn])  # they would belong to an older report
    return report


def _draw(students: Sequence[ComparedStudent]) -> dict[str, bytes]:
    drawn = {CURVES: draw_learning_curves(students), SIZES: draw_against_parameters(students)}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def _facts(run: TrainingRun) -> RunFacts:
    return RunFacts(
        path=readable(run.path),
        seed=run.seed,
        is_finished=run.is_finished,
        epochs_done=run.epochs_done,
        num_epochs=run.num_epochs,
    )
