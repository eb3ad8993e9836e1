"""Programs in processes of their own: started fast, bounded in time and memory, and judged by how they ended."""

import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from softlab.cli.main import main
from tests.forks import FORKS

LIMIT_S = 60.0
"""After which a program counts as hanging. The slowest takes 3 s where nothing else runs."""

ROOM_BYTES = 8 << 30
"""Of address space. What asks for more took a number at its word."""

EXECUTED = 99
"""The exit code of a program that was made to run another one, or to unpickle."""

EXECUTING = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class")
"""Events of Python's audit log that no document and no file of a store may lead to."""

Fault = Callable[[], object]
"""What a process does to itself before it begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a program ended, and what it printed."""

    code: int | None
    """Negative for a signal, None where it was ended after `LIMIT_S`."""

    out: str
    err: str

    @property
    def complaint(self) -> str | None:
        """What is wrong with it, whatever it was to do; None for a result and for a refusal in one line. The same
        mistake of the code has the same text."""
        if self.code is None:
            return "hangs"
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        if self.code == EXECUTED:
            return f"executed {self.err.splitlines()[-1]}"
        if "Traceback (most recent call last)" in self.err:
            return f"traceback: {_culprit(self.err)}"
        refusals = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        if self.code == 0 and any("Error" in line or "Warning" in line for line in refusals):
            return f"prints {refusals[0][:60]}"
        if self.code == 1 and not self.out and not (len(refusals) == 1 and refusals[0].startswith("error: ")):
            return f"refuses in {len(refusals)} lines"
        return None if self.code in (0, 1) else f"exit code {self.code}"

    @property
    def last_line(self) -> str:
        return (self.err.strip().splitlines() or self.out.strip().splitlines() or [""])[-1]


def softlab(*arguments: object) -> Callable[[], None]:
    """A command, as a program."""
    return _Command([str(argument) for argument in arguments])


@dataclass(frozen=True, slots=True)
class _Command:
    """One that can be sent to another process."""

    arguments: list[str]

    def __call__(self) -> None:
        main(self.arguments)


def run_program(
    program: Callable[[], Any], folder: Path, *, environment: Mapping[str, str], fault: Fault | None = None
) -> Outcome:
    """What became of it; its output and its caches lie in the folder."""
    variables = {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "160", **environment}
    out, err = folder / "out.txt", folder / "err.txt"
    process = FORKS.Process(target=_become, args=(program, variables, fault, out, err))
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return Outcome(code=None, out="", err=f"was ended after {LIMIT_S:g} s")
    code = process.exitcode
    process.close()
    return Outcome(code=code, out=out.read_text(errors="replace"), err=err.read_text(errors="replace"))


def _become(
    program: Callable[[], Any], variables: Mapping[str, str], fault: Fault | None, out: Path, err: Path
) -> None:
    os.environ.update(variables)
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    with suppress(ValueError):  # where less is given already
        resource.setrlimit(resource.RLIMIT_AS, (ROOM_BYTES, resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    warnings.simplefilter("default")
    sys.addaudithook(_refuse_to_execute)
    if fault is not None:
        fault()
    program()


def _refuse_to_execute(event: str, arguments: tuple[object, ...]) -> None:
    if event in EXECUTING and "fc-list" not in str(arguments):
        os.write(2, f"\n{event} {arguments!r}\n".encode(errors="replace"))
        os._exit(EXECUTED)


def _culprit(err: str) -> str:
    """The last line of softlab's own that an error came through, and its class."""
    places = re.findall(r'File "[^"]*?/(softlab/[^"]+)", line \d+, in (\S+)', err)
    place = ":".join(places[-1]) if places else "nowhere"
    error = re.findall(r"^([A-Za-z_.]+(?:Error|Exception|Interrupt|Warning)?)\b.*$", err, re.MULTILINE)
    return f"{error[-1] if error else '?'} in {place}"
