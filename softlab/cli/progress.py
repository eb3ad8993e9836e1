"""Progress bars of long work; they go to stderr, and only where someone is watching."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bar(Protocol):
    """Shows how many are done, with a note beside the bar; the total may be told late."""

    def __call__(self, done: int, note: str, total: int | None = None) -> None: ...


class _Rate(ProgressColumn):
    """Rows or steps in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} {self._unit}/s")


@contextmanager
def rows_bar(total: int | None = None, *, unit: str = "rows") -> Iterator[Bar]:
    """A bar over rows or steps: done, percent, rate, time left, note. Shows nothing until it is first called."""
    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    task = progress.add_task("", total=total, visible=False)
    with progress:

        def show(done: int, note: str, total: int | None = None) -> None:
            progress.update(task, completed=done, description=note, visible=True)
            if total is not None:
                progress.update(task, total=total)

        yield show
