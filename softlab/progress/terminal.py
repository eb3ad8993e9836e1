"""A bar in a terminal, drawn by rich."""

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from softlab.progress.figures import Figures

BAR_WIDTH = 24


class TerminalBar:
    """The bar goes when the work is done. It is drawn by the calls alone, without a thread of its own: a process that
    forks workers should have none."""

    every_s = 0.1

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    def draw(self, figures: Figures) -> None:
        if self._progress is None:
            self._progress = self._start()
        (task,) = self._progress.task_ids
        self._progress.update(task, completed=figures.done, total=figures.total, description=figures.text)
        self._progress.refresh()

    def settle(self, figures: Figures) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start(self) -> Progress:
        progress = Progress(
            BarColumn(BAR_WIDTH),
            TextColumn("{task.description}", markup=False, table_column=Column()),  # a column that may wrap
            console=self._console,
            transient=True,
            auto_refresh=False,
            # Only what goes to the same terminal has to make room for the bar; `> file` stays as it is.
            redirect_stdout=sys.stdout.isatty(),
        )
        progress.add_task("")
        progress.start()
        return progress
