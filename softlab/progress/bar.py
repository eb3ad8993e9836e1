"""The one bar for all long work, for `on_progress` and the callbacks that are told `done` and `total`."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from softlab.progress.displays import Display, choose_display
from softlab.progress.figures import Figures
from softlab.progress.pace import Pace
from softlab.ranks import is_first_rank


class Progress(Protocol):
    """What long work tells of itself after each step."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def unit(self) -> str:
        """Of both, in the plural: rows, steps."""
        ...

    @property
    def note(self) -> str:
        """What else a person wants to see beside the bar."""
        ...


class ProgressBar:
    """Made by `progress_bar`. Shows nothing before it is called, and of torchrun's processes only the first shows it.

    What has another unit than the last one, or begins again from the start, is other work, with a rate of its own.
    """

    def __init__(self, *, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit, self._clock = unit, clock
        self._display: Display | None = None
        self._figures: Figures | None = None
        self._pace, self._drawn_at = Pace(), 0.0

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None and self._figures is not None:
            self._display.settle(self._figures)
            self._display = None  # used again, it may be in another cell of a notebook

    def __call__(self, progress: Progress | int, total: int | None = None) -> None:
        """What a callback is given: a Progress, or how many are done and how many there are."""
        if isinstance(progress, int):
            self.show(progress, total, unit=self._unit)
        else:
            self.show(progress.done, progress.total, unit=progress.unit, note=progress.note)

    def show(self, done: int, total: int | None = None, *, unit: str, note: str = "") -> None:
        """So many are done; `total` is None where nobody knows."""
        if not is_first_rank():
            return
        now = self._clock()
        if self._display is None:
            self._display, self._drawn_at = choose_display(), now
        if self._figures is not None and (unit != self._figures.unit or done < self._figures.done):
            self._pace = Pace()
        self._pace.add(done, now=now)
        self._figures = Figures(done=done, total=total, unit=unit, note=note, rate=self._pace.rate)
        if total is not None and done >= total:
            self._display.settle(self._figures)
        elif now - self._drawn_at >= self._display.every_s:
            self._display.draw(self._figures)
            self._drawn_at = now


def progress_bar(*, unit: str = "items") -> ProgressBar:
    """A bar to give to whatever takes a callback; `unit` is that of callbacks which are told plain numbers.

        with softlab.progress_bar() as bar:
            softlab.dump_teacher(teacher, source, "train.zarr", on_progress=bar)
        softlab.pull("s3://bucket/labels/pets@3", "pets", on_bytes=softlab.progress_bar(unit="bytes"))

    It is shown by rich in a terminal, by the notebook itself in Jupyter, and elsewhere as a line every half minute,
    always on stderr or below the cell. Rate and time left are those of the last half minute. A `with` also puts it
    away when an error ends the work; without one it goes when all is done.
    """
    return ProgressBar(unit=unit)
