"""A process that may have no more memory ends in one line that says so."""

import subprocess
import sys
from pathlib import Path

import pytest

from softlab.cli.out_of_memory import explain_no_memory


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
