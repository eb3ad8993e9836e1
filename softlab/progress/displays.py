"""Where progress is shown: whichever display fits the place that this process writes to."""

import sys
from typing import Protocol

from rich.console import Console

from softlab.progress.figures import Figures
from softlab.progress.notebook import NotebookBar
from softlab.progress.terminal import TerminalBar

LINE_EVERY_S = 30.0


class Display(Protocol):
    """Shows figures, each in place of the last ones."""

    every_s: float
    """How often it is drawn at most; the first time after so long."""

    def draw(self, figures: Figures) -> None: ...

    def settle(self, figures: Figures) -> None:
        """The work is done, or ended by an error; more may follow."""
        ...


class LogLines:
    """A line now and then on stderr."""

    def __init__(self) -> None:
        self.every_s = LINE_EVERY_S

    def draw(self, figures: Figures) -> None:
        print(figures.text, file=sys.stderr, flush=True)

    def settle(self, figures: Figures) -> None:
        """What came of the work follows in the log anyway."""


def choose_display() -> Display:
    console = Console(stderr=True)
    if console.is_jupyter:
        return NotebookBar()
    is_terminal = console.is_terminal and not console.is_dumb_terminal
    return TerminalBar(console) if is_terminal else LogLines()
