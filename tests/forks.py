"""Processes that start fast: forks of one that has imported everything, because torch alone takes seconds."""

from collections.abc import Callable
from multiprocessing import get_context

PRELOADED = [
    "pandas",  # where it is installed pyarrow imports it at the first array, which takes longer than a small dump
    "pytest",
    "tests.conftest",  # one thread for torch, no waiting for the disk
    "softlab.cli.dump_teacher",
    "softlab.cli.main",
    "softlab.cli.train_student",
    "softlab.sharing.publish.push",
    "softlab.sharing.fetch.pull",
    "softlab.store.parquet_format",
    "softlab.store.zarr_arrays",
    "softlab.store.zarr_format",
]

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(PRELOADED)


def run_in_fork(target: Callable[..., None], *arguments: object) -> int | None:
    """The exit code of a process that does this."""
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode
