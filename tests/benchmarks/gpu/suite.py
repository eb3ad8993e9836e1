"""The tests of the whole suite that need a GPU, in a process of their own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.gpu.finding import Finding
from tests.benchmarks.gpu.work import Work

ROOT = Path(__file__).parents[3]
MARK = "mark.gpu"
COUNTS = re.compile(r"^(?:\d+ (?:passed|failed|skipped|errors?|deselected|warnings?|xfailed)(?:, )?)+ in [\d.]+s", re.M)
MANY_LINES = 60


def run_suite(work: Work, folder: Path, *, seconds: float) -> list[Finding]:
    """What pytest counts, and the end of what it prints where a test fails."""
    files = list(work.tests) or files_with_tests_of_a_gpu()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--basetemp={folder}"]
    process = subprocess.Popen(
        [*command, *files],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that all that it starts can be ended with it
    )
    try:
        told, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return [Finding(part="tests", what=f"not finished after {seconds:.0f} s", has_failed=True)]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return [_summary(told, has_failed=process.returncode != 0)]


def files_with_tests_of_a_gpu() -> list[str]:
    """But for those of the benchmarks, which are what is run here."""
    files = [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if "benchmarks" not in file.parts]
    return [str(file.relative_to(ROOT)) for file in files if MARK in file.read_text()]


def _summary(told: str, *, has_failed: bool) -> Finding:
    if has_failed:
        print("\n".join(told.splitlines()[-MANY_LINES:]), file=sys.stderr)
    counts = COUNTS.search(told)
    return Finding(
        part="tests",
        what="pytest counted nothing" if counts is None else counts.group(),
        has_failed=has_failed or counts is None,
    )
