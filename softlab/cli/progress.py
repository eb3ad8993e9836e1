"""Progress of the commands, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from softlab.progress.bar import progress_bar


class Bar(Protocol):
    """Shows how many are done, with a note beside the bar; the total may be told late."""

    def __call__(self, done: int, note: str, total: int | None = None) -> None: ...


class RunBar(Protocol):
    """A Bar of whichever unit is being done."""

    def __call__(self, done: int, note: str, total: int | None = None, *, unit: str) -> None: ...


@contextmanager
def rows_bar(*, unit: str = "rows") -> Iterator[Bar]:
    """A bar over one thing: done, percent, rate, time left, note."""
    with run_bar() as show:
        yield lambda done, note, total=None: show(done, note, total, unit=unit)


@contextmanager
def run_bar() -> Iterator[RunBar]:
    """A bar over a run that does one thing after another, such as samples that are looked at and then rows."""
    with progress_bar() as bar:
        yield lambda done, note, total=None, *, unit: bar.show(done, total, unit=unit, note=note)


def scan_bar(show: RunBar) -> Callable[[int, int], None]:
    """What a source that is being opened calls after each sample that it looked at."""
    return lambda done, total: show(done, "looking for unreadable samples", total, unit="samples")
