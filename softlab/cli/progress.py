"""Progress of long work, on stderr: a bar in a terminal, a line every half minute in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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

from softlab.ranks import is_first_rank

LINE_EVERY_S = 30.0


class Bar(Protocol):
    """Shows how many are done, with a note beside the bar; the total may be told late."""

    def __call__(self, done: int, note: str, total: int | None = None) -> None: ...


class RunBar(Protocol):
    """A Bar of whichever unit is being done."""

    def __call__(self, done: int, note: str, total: int | None = None, *, unit: str) -> None: ...


class _Rate(ProgressColumn):
    """Rows or steps in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} {self._unit}/s")


@contextmanager
def rows_bar(total: int | None = None, *, unit: str = "rows") -> Iterator[Bar]:
    """A bar over rows or steps: done, percent, rate, time left, note; where nobody watches, a line now and then.

    Shows nothing until it is first called.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(unit, total)
        return
    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )
    task = progress.add_task("", total=total, visible=False)
    with progress:

        def show(done: int, note: str, total: int | None = None) -> None:
            progress.update(task, completed=done, description=note, visible=True)
            if total is not None:
                progress.update(task, total=total)

        yield show


@contextmanager
def run_bar() -> Iterator[RunBar]:
    """A bar over a run that does one thing after another, such as samples that are looked at and then rows: with
    another unit it begins anew. Of torchrun's processes the first one shows it."""
    if not is_first_rank():
        yield lambda done, note, total=None, *, unit: None
        return
    bars: dict[str, Bar] = {}
    with ExitStack() as shown:

        def show(done: int, note: str, total: int | None = None, *, unit: str) -> None:
            if unit not in bars:
                shown.close()
                bars.clear()
                bars[unit] = shown.enter_context(rows_bar(unit=unit))
            bars[unit](done, note, total)

        yield show


def scan_bar(show: RunBar) -> Callable[[int, int], None]:
    """What a source that is being opened calls after each sample that it looked at."""
    return lambda done, total: show(done, "looking for unreadable samples", total, unit="samples")


class _Lines:
    """The same facts for a log file."""

    def __init__(self, unit: str, total: int | None) -> None:
        self._unit, self._total = unit, total
        self._start = self._last = time.monotonic()
        self._first = 0
        self._done: int | None = None

    def __call__(self, done: int, note: str, total: int | None = None) -> None:
        now, total = time.monotonic(), total or self._total
        goes_back = self._done is None or done < self._done  # another source, or another pass of a search
        self._done = done
        if goes_back:
            self._start, self._first = now, done
            return
        if now - self._last < LINE_EVERY_S or not total:
            return
        self._last = now
        rate = (done - self._first) / (now - self._start)
        left = f"{(total - done) / rate:,.0f} s left" if rate else "stalled"
        text = f"{done:,}/{total:,} {self._unit} ({done / total:.0%}), {rate:,.0f} {self._unit}/s, {left}  {note}"
        print(text, file=sys.stderr, flush=True)
