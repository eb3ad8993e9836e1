"""A process that may have no more memory ends in one line that says so."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import get_worker_info

from softlab.cli.out_of_memory import explain_no_memory
from softlab.sources.source import Sample
from tests.teacher.dumping import Pictures, dump, make_options


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "MemoryError"),
        (MemoryError("Unable to allocate 2.0 GiB for an array"), "Unable to allocate 2.0 GiB for an array"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "libtorch_cpu.so: failed to map segment from shared object",
        ),
        (OSError(12, "Cannot allocate memory"), "[Errno 12] Cannot allocate memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried\nframes"),
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
        ),
    ],
)
def test_whoever_raises_it_it_is_one_line(error: Exception, reason: str) -> None:
    told = explain_no_memory(error)

    assert told is not None
    assert told.startswith(f"no more memory for this process: {reason}. Raise its limit (`ulimit -v`")
    assert "\n" not in told


def test_an_import_that_was_broken_off_by_it_is_told_by_what_broke_it() -> None:
    error = SystemError("error return without exception set")
    error.__context__ = MemoryError()

    assert explain_no_memory(error) is not None
    assert explain_no_memory(SystemError("error return without exception set")) is None
    assert explain_no_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


class Deadly(Pictures):
    """A source that a loader process doesn't survive."""

    def read(self, index: int) -> Sample:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


@pytest.mark.process
def test_a_loader_process_that_is_killed_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as raised:
        dump(tmp_path / "store", make_options(workers=1), source=Deadly())

    told = explain_no_memory(raised.value)
    assert told is not None
    assert re.match(
        r"DataLoader worker \(pid(\(s\))? \d+\) (is killed by signal: Killed|exited unexpectedly)\. Look", told
    )
    assert "0 to load without. What was finished is kept, and the same command goes on." in told


PROGRAM = """
import resource, sys
import numpy  # OpenBLAS ends a process without a word of Python
from softlab.cli.main import main

in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (64 << 20), resource.RLIM_INFINITY))
main(sys.argv[1:])
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux tells how much is in use")
def test_a_command_that_can_t_even_load_its_libraries_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "dump-teacher", "--teacher", "softlab:grey_resnet"]

    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: no more memory for this process: ")
    assert len(ended.stderr.splitlines()) == 1
