"""Programs in processes of their own: started fast, bounded in time and memory, and judged by how they ended."""

import itertools
import os
import re
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

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

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202e]")
"""What no terminal should be sent, whatever a file holds."""

HANGUP = signal.SIGUSR1
HUNG = -HANGUP
"""The exit code of a process that was ended because it took too long."""

Program = Callable[[], object]
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
        if CONTROL.search(self.out + self.err):
            return "prints control characters"
        refusals = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        if self.code == 0 and any("Error" in line or "Warning" in line for line in refusals):
            return f"prints {refusals[0][:60]}"
        if self.code == 1 and not self.out and not (len(refusals) == 1 and refusals[0].startswith("error: ")):
            return f"refuses in {len(refusals)} lines"
        return None if self.code in (0, 1) else f"exit code {self.code}"

    @property
    def last_line(self) -> str:
        return (self.err.strip().splitlines() or self.out.strip().splitlines() or [""])[-1]


def softlab(*arguments: object) -> Program:
    """A command, as a program."""
    return _Command([str(argument) for argument in arguments])


@dataclass(frozen=True, slots=True)
class _Command:
    """One that can be sent to another process."""

    arguments: list[str]

    def __call__(self) -> None:
        main(self.arguments)


def run_program(
    program: Program, folder: Path, *, environment: Mapping[str, str] | None = None, fault: Fault | None = None
) -> Outcome:
    """What became of it; its output and its caches lie in the folder."""
    (outcome,) = run_programs([program], folder, environment=environment, fault=fault)
    return outcome


def run_programs(
    programs: Sequence[Program],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    fault: Fault | None = None,
) -> list[Outcome]:
    """Of several, one after the other in one process, which is quicker; after one that ends it, in the next."""
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    (folder / "outputs").mkdir()
    variables = {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "160", **(environment or {})}
    outcomes: list[Outcome] = []
    while len(outcomes) < len(programs):
        first = len(outcomes)
        process = FORKS.Process(target=_become, args=(programs[first:], first, folder, variables, fault))
        process.start()
        _wait_for(process, folder)
        ended = [_outcome(folder, number) for number in range(first, len(programs))]
        outcomes += itertools.takewhile(lambda each: each.code is not None, ended)
        if len(outcomes) < len(programs):
            code = None if process.exitcode == HUNG else process.exitcode
            outcomes.append(replace(ended[len(outcomes) - first], code=code))
        process.close()
    return outcomes


def _wait_for(process: BaseProcess, folder: Path) -> None:
    """Until it ends, or hangs: its exit code is then `HUNG`."""
    ended = -1
    while process.is_alive() and ended < len(list(folder.glob("outputs/*.code"))):
        ended = len(list(folder.glob("outputs/*.code")))
        process.join(LIMIT_S)
    if process.is_alive():
        os.kill(process.pid or 0, HANGUP)
        process.join()


def _outcome(folder: Path, number: int) -> Outcome:
    """The code is None where it has not ended by itself."""
    texts = [folder / f"outputs/{number}.{kind}" for kind in ("out", "err", "code")]
    out, err, code = (path.read_text(errors="replace") if path.exists() else "" for path in texts)
    return Outcome(code=int(code) if code else None, out=out, err=err)


def _become(
    programs: Sequence[Program], first: int, folder: Path, variables: Mapping[str, str], fault: Fault | None
) -> None:
    os.environ.update(variables)
    with suppress(ValueError):  # where less is given already
        resource.setrlimit(resource.RLIMIT_AS, (ROOM_BYTES, resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    sys.addaudithook(_refuse_to_execute)
    if fault is not None:
        fault()
    for number, program in enumerate(programs, start=first):
        _send_output_to(folder / f"outputs/{number}")
        code = _code_of(program)
        sys.stdout.flush()
        sys.stderr.flush()
        (folder / f"outputs/{number}.code").write_text(str(code))
    os._exit(0)


def _send_output_to(path: Path) -> None:
    for kind, descriptor in (("out", 1), ("err", 2)):
        file = os.open(f"{path}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115


def _code_of(program: Program) -> int:
    warnings.simplefilter("default")
    try:
        program()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


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
