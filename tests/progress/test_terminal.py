import io
import sys
import threading

import pytest
from rich.console import Console

from softlab.progress.displays import LogLines, choose_display
from softlab.progress.figures import Figures
from softlab.progress.terminal import TerminalBar

SHOW_CURSOR = "\x1b[?25h"


def figures(done: int, *, note: str = "") -> Figures:
    return Figures(done=done, total=50, unit="rows", note=note, rate=None)


def terminal(*, width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("terminal_type", "is_bar"), [("xterm", True), ("dumb", False)], ids=["terminal", "one that moves no cursor"]
)
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, terminal_type: str, is_bar: bool) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", terminal_type)

    assert isinstance(choose_display(), TerminalBar if is_bar else LogLines)


def test_a_file_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")

    assert isinstance(choose_display(), LogLines)


def test_a_bar_shows_the_figures_and_goes_when_the_work_is_done() -> None:
    console = terminal()
    bar = TerminalBar(console)

    bar.draw(figures(12))
    bar.draw(figures(25, note="[epoch 2]"))
    before = written(console)
    bar.settle(figures(50))

    assert "12/50 rows (24%)" in before
    assert "25/50 rows (50%)  [epoch 2]" in before
    assert SHOW_CURSOR not in before
    assert SHOW_CURSOR in written(console)


def test_after_one_work_comes_another() -> None:
    console = terminal()
    bar = TerminalBar(console)
    bar.draw(figures(12))
    bar.settle(figures(50))

    bar.draw(figures(7))

    assert "7/50 rows (14%)" in written(console)
    bar.settle(figures(50))


def test_a_long_note_wraps_where_the_terminal_is_narrow() -> None:
    console = terminal(width=60)
    bar = TerminalBar(console)

    bar.draw(figures(25, note="epoch 2, loss 1.234, best accuracy 79.14%"))
    bar.settle(figures(50))

    assert all(word in written(console) for word in ("25/50", "epoch", "1.234,", "79.14%"))


def test_what_a_script_prints_into_a_file_stays_out_of_the_terminal() -> None:
    bar, stdout = TerminalBar(terminal()), sys.stdout

    bar.draw(figures(12))

    assert sys.stdout is stdout
    bar.settle(figures(50))


def test_no_thread_draws_the_bar() -> None:
    before, bar = threading.active_count(), TerminalBar(terminal())

    bar.draw(figures(12))

    assert threading.active_count() == before
    bar.settle(figures(50))
