"""`dump-teacher --engine ray`, stopped, killed and given again, on a cluster that it starts itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from softlab.store.folder import count_finished_shards
from tests.cli.program import ROOT, TEACHER, TRAIN, Softlab
from tests.clusters import cluster_environment
from tests.store.building import contents

pytestmark = [pytest.mark.process, pytest.mark.slow]

pytest.importorskip("ray")

DUMP = ("dump-teacher", *TEACHER, *TRAIN, "--set", "source.limit=1280", "--device", "cpu")
SMALL = ("--k", "4", "--set", "dump.shard_rows=16", "--batch-size", "16")
ON_RAY = ("--engine", "ray", "--devices", "2", "--set", "dump.cpus_per_worker=0.5")


@pytest.fixture
def start() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Starts the command for a store. What it leaves when it is killed, Ray would end after a minute."""
    processes: list[subprocess.Popen[bytes]] = []
    with cluster_environment() as variables:

        def run(store: Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "softlab", *DUMP, *SMALL, *ON_RAY, "--out", str(store)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
            with store.with_suffix(".out").open("wb") as out, store.with_suffix(".err").open("wb") as err:
                process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err)
            processes.append(process)
            return process

        yield run
        for pid in running(variables["RAY_TMPDIR"]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in processes:
            process.wait()


def running(folder: str) -> list[int]:
    """Processes of a cluster that is in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:  # it has just ended, or is of somebody else
            continue
        if f"RAY_TMPDIR={folder}".encode() in environment.split(b"\0"):
            found.append(int(process.name))
    return found


def told_by(store: Path) -> list[str]:
    """Lines on stderr, without how far it is, which is told every half minute."""
    return [line for line in store.with_suffix(".err").read_text().splitlines() if " rows (" not in line]


def wait_until(is_so: Callable[[], bool], *, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)


def test_a_command_that_is_stopped_or_killed_goes_on_when_it_is_given_again(
    tmp_path: Path, softlab: Softlab, start: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    store = tmp_path / "store"
    alone = softlab(*DUMP, *SMALL, "--out", tmp_path / "alone")

    stopped = start(store)
    wait_until(lambda: count_finished_shards(store) >= 3)
    stopped.send_signal(signal.SIGINT)
    codes = [alone.code, stopped.wait()]
    told = told_by(store)
    killed = start(store)
    wait_until(lambda: count_finished_shards(store) >= 20)
    killed.kill()
    codes += [killed.wait(), start(store).wait()]

    assert (codes, told_by(store)) == ([0, 130, -signal.SIGKILL, 0], [])
    assert len(told) == 1
    assert told[0].startswith(f"{store}: stopped with ")
    assert told[0].endswith(" of 80 shards finished. Run the same command again to go on.")
    assert store.with_suffix(".out").read_text().count("rows/s") == 1
    assert contents(store) == contents(tmp_path / "alone")
