"""Processes of one training run of which one is killed, and two such runs that want the same folder."""

import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from softlab.cli.main import main
from tests.cli.program import Softlab, train
from tests.ranks import started

pytestmark = pytest.mark.process

LIMIT_S = 60
ONE_LINE = (
    "error: process {} of 3: another process of this run has ended, or can't be reached (",
    "Look whether it was killed, as where the machine ran out of memory; the same command goes on from the last",
)


def run(arguments: list[str], printed: Path) -> None:
    """One rank, whose errors go into a file of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(printed / f"rank-{os.environ['RANK']}", os.O_WRONLY | os.O_CREAT), 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    main(arguments)


def wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def codes(processes: list[BaseProcess]) -> list[int | None]:
    for process in processes:
        process.join(LIMIT_S)
    return [process.exitcode for process in processes]


def lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]


def arguments_of(stores: Path, out: Path, *, epochs: int) -> list[str]:
    changes = (f"run.epochs={epochs}", "run.batch_size=48", "log.checkpoint_steps=2", "device.name=cpu")
    given = (argument for change in changes for argument in ("--set", change))
    return [str(argument) for argument in (*train(stores / "train.zarr", out), *given)]


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_of_those_that_are_left_one_tells_in_a_line_and_the_run_goes_on(
    tmp_path: Path, stores: Path, softlab: Softlab, victim: int
) -> None:
    out, printed = tmp_path / "out", tmp_path / "printed"
    printed.mkdir()

    with started(3, run, arguments_of(stores, out, epochs=5000), printed) as processes:
        wait((out / "resume/position.json").exists)
        os.kill(processes[victim].pid or 0, signal.SIGKILL)
        ended = codes(processes)

    assert [ended.pop(victim), *ended] == [-signal.SIGKILL, 1, 1]
    (line,) = lines(printed)
    assert line.startswith(tuple(ONE_LINE[0].format(rank + 1) for rank in range(3) if rank != victim))
    assert ONE_LINE[1] in line
    assert (out / "resume/position.json").exists()


def test_a_killed_run_is_gone_on_with_by_as_many(tmp_path: Path, stores: Path) -> None:
    out, printed = tmp_path / "out", [tmp_path / "first", tmp_path / "second"]
    arguments = arguments_of(stores, out, epochs=30)
    for each in printed:
        each.mkdir()

    with started(2, run, arguments, printed[0]) as processes:
        wait((out / "resume/position.json").exists)
        os.kill(processes[1].pid or 0, signal.SIGKILL)
        codes(processes)
    with started(2, run, arguments, printed[1]) as processes:
        ended = codes(processes)

    assert ended == [0, 0], lines(printed[1])
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 30


def test_a_second_run_of_several_processes_is_locked_out(tmp_path: Path, stores: Path) -> None:
    out, printed = tmp_path / "out", [tmp_path / "first", tmp_path / "second"]
    arguments = arguments_of(stores, out, epochs=5000)
    for each in printed:
        each.mkdir()

    with started(2, run, arguments, printed[0]) as first:
        wait((out / "resume/position.json").exists)
        with started(2, run, arguments, printed[1]) as second:
            second[0].join(LIMIT_S)
            refused = second[0].exitcode
        is_left_alone = all(process.is_alive() for process in first)

    assert (refused, is_left_alone) == (1, True)
    (line,) = lines(printed[1])
    assert line.startswith(f"error: {out}: another process is writing this training run. Wait until it ends")
