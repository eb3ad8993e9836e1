"""System calls that fail under a command, once or from then on: it ends in one line, and the repeated one works."""

import builtins
import errno
import io
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaign.commands import COMMANDS, Command, Workshop
from tests.campaign.counts import Try
from tests.campaign.kills import come_through

ERRORS = {
    "open": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.EINTR, errno.EROFS, errno.EACCES),
    "read": (errno.EIO, errno.EINTR),
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR),
    "fsync": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR),
    "rename": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS),
    "link": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS),
    "unlink": (errno.EIO, errno.EROFS, errno.EACCES),
    "mkdir": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS),
    "scandir": (errno.EIO, errno.EMFILE, errno.EACCES),
    "stat": (errno.EIO, errno.EACCES, errno.ESTALE, errno.EINTR),
}
"""What each kind of call may be refused with."""

FUNCTIONS = {
    "rename": ("rename", "replace"),
    "link": ("link",),
    "unlink": ("unlink", "remove", "rmdir"),
    "mkdir": ("mkdir",),
    "scandir": ("scandir", "listdir"),
    "open": ("open",),
    "fsync": ("fsync",),
    "stat": ("stat", "lstat"),
}
"""Of `os`, by the kind of their call."""

CHECKS = {
    "verify": Command(line="verify {here}/two", begins="two"),
    "report": Command(line="report {here}/run --out {here}/cache/report", begins="run"),
}
UNDER_TEST = {name: each for name, each in COMMANDS.items() if not each.in_bucket} | CHECKS
NAMELESS = ("read", "write", "fsync")
"""Errors of these don't tell the file."""

OnCall = Callable[[str, int], None]
Count = Callable[[str, object], None]
REAL_OPEN = os.open


def failing_calls(
    workshop: Workshop, chance: random.Random, *, commands: Mapping[str, Command] = UNDER_TEST
) -> Iterator[Try]:
    """Endless: a command, a kind of call and which of those that it makes, by chance."""
    known: dict[str, tuple[dict[str, bytes], Counter[str]]] = {}
    while True:
        name = chance.choice(list(commands))
        if name not in known:
            known[name] = _undisturbed(workshop, commands[name])
        expected, calls = known[name]
        kind = chance.choice(list(calls))
        at, number = chance.randint(1, calls[kind]), chance.choice(ERRORS[kind])
        is_lasting = chance.random() < 0.5 and number != errno.EINTR  # which Python tries again, without end
        told = f"{kind} {at} of {calls[kind]} fails with {errno.errorcode[number]}{' and those after it' * is_lasting}"
        refuse = partial(_refuse, of=kind, at=at, number=number, is_lasting=is_lasting)
        yield Try(
            part="calls",
            row=name,
            what=told,
            run=partial(_fail, workshop, commands[name], expected, refuse),
        )


def _undisturbed(workshop: Workshop, command: Command) -> tuple[dict[str, bytes], Counter[str]]:
    place, note = workshop.begin(command), workshop.made.parent / "calls.txt"
    note.write_text("")
    outcome = place.run(
        command.line, fault=partial(_on_each_call, (workshop.made, workshop.here), partial(_note, note))
    )
    assert outcome.code == 0, outcome
    return place.contents(), Counter(note.read_text().split())


def _fail(workshop: Workshop, command: Command, expected: dict[str, bytes], refuse: OnCall) -> tuple[str, str | None]:
    place = workshop.begin(command)
    outcome = place.run(command.line, fault=partial(_on_each_call, (workshop.made, workshop.here), refuse))
    if outcome.complaint:
        return "", f"{outcome.complaint}\n{outcome.err}"
    end = "refused" if outcome.code else "came through"
    if command.whole is not None and (whole := place.run(command.whole)).code != 0:
        return "", f"what was there is not whole\n{whole.out}{whole.err}"
    if outcome.code == 0 and place.contents().keys() < expected.keys():
        return "", f"says nothing, and lacks something\n{sorted(expected.keys() - place.contents().keys())}"
    return end, come_through(place, command, expected)


def _refuse(kind: str, call: int, *, of: str, at: int, number: int, is_lasting: bool) -> None:
    if kind == of and (call >= at if is_lasting else call == at):
        raise OSError(number, os.strerror(number), *([] if kind in NAMELESS else ["a file"]))


def _note(note: Path, kind: str, _: int) -> None:
    descriptor = REAL_OPEN(note, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{kind}\n".encode())
    os.close(descriptor)


def _on_each_call(roots: tuple[Path, ...], act: OnCall) -> None:
    """In a process of its own: act before each call on a file below folders, with the kind and number of the call."""
    calls: Counter[str] = Counter()
    below = tuple(f"{root}{os.sep}" for root in roots)

    def count(kind: str, path: object) -> None:
        if isinstance(path, str | os.PathLike | int) and _path_of(path).startswith(below):
            calls[kind] += 1
            act(kind, calls[kind])

    for kind, names in FUNCTIONS.items():
        for name in names:
            setattr(os, name, partial(_count_first, getattr(os, name), count, kind))
    io.open = builtins.open = partial(_open, io.open, count)


def _path_of(path: Any) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.abspath(os.fsdecode(path))
    except OSError:
        return ""


def _count_first(real: Callable[..., Any], count: Count, kind: str, *given: Any, **more: Any) -> Any:
    count(kind, given[0] if given else ".")
    return real(*given, **more)


def _open(real: Callable[..., Any], count: Count, file: Any, mode: str = "r", *given: Any, **more: Any) -> Any:
    """A file whose reads and writes are counted too."""
    count("open", file)
    if isinstance(file, int) or given or more.get("opener"):
        return real(file, mode, *given, **more)
    raw = _Counting(file, mode.replace("b", "").replace("t", ""))
    raw.count = lambda kind: count(kind, file)
    if more.get("buffering") == 0:
        return raw
    buffered: Any = io.BufferedRandom if "+" in mode else io.BufferedReader if raw.readable() else io.BufferedWriter
    if "b" in mode:
        return buffered(raw)
    names = ("encoding", "errors", "newline")
    return io.TextIOWrapper(buffered(raw), **{name: more[name] for name in names if name in more})


class _Counting(io.FileIO):
    count: Callable[..., None]

    def readinto(self, *given: Any) -> Any:
        self.count("read")
        return super().readinto(*given)

    def readall(self) -> Any:
        self.count("read")
        return super().readall()

    def read(self, *given: Any) -> Any:
        self.count("read")
        return super().read(*given)

    def write(self, *given: Any) -> Any:
        self.count("write")
        return super().write(*given)

    def truncate(self, *given: Any) -> Any:
        self.count("write")
        return super().truncate(*given)
