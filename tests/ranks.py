"""Processes that take themselves for those of torchrun, and start fast; the test that starts them ends them."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from tests.forks import FORKS


@contextmanager
def started(count: int, target: Callable[..., None], *arguments: object) -> Iterator[list[BaseProcess]]:
    """So many processes that do this, each with a rank of its own; those that are left at the end are killed."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    processes = [
        FORKS.Process(target=_run, args=(_environment(rank, count, store.port), target, *arguments))
        for rank in range(count)
    ]
    with running(processes):
        yield list(processes)


@contextmanager
def running(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Processes that are started here; those that are left at the end are killed."""
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def wait_for_end(processes: list[BaseProcess]) -> list[int | None]:
    """Their exit codes, once all have ended or one has failed."""
    while any(process.is_alive() for process in processes) and not any(process.exitcode for process in processes):
        time.sleep(0.005)
    return [process.exitcode for process in processes]


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def _run(environment: dict[str, str], target: Callable[..., None], *arguments: object) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*arguments)
