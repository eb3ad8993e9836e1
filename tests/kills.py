"""Processes that are killed, or held up, before the so-manieth change that they make to files."""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

CHANGES = ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir")
"""Events of Python's audit log in which a process changes files."""


def before_change(out: Path, number: int, act: Callable[[], object]) -> None:
    """Have this process do something before its so-manieth change to files of a store."""
    before_each_change(out, lambda at: act() if at == number else None)


def before_each_change(out: Path, act: Callable[[int], object]) -> None:
    """The same before every change, with its number, from 1."""
    changes = itertools.count(1)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        is_change = event in CHANGES and str(arguments[0]).startswith(f"{out}{os.sep}")
        if is_change and not _only_reads(event, arguments):
            act(next(changes))

    sys.addaudithook(audit)


def _only_reads(event: str, arguments: tuple[object, ...]) -> bool:
    return event == "open" and isinstance(arguments[2], int) and not arguments[2] & (os.O_WRONLY | os.O_RDWR)


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
