"""Requests to a remote, several at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int) -> Iterator[tuple[Item, Result]]:
    """Each item with what its work gave, in the order in which they end. The first error is raised, once those that
    have begun are through; the others don't begin."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="softlab-remote")
    try:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
