"""Several shards by one process with one teacher in memory. One that fails is put off, so that the others are done."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch

from softlab.errors import ModelError, RemoteError, StoreError
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.attempts import MOST_ATTEMPTS, count_attempts, note_attempt
from softlab.teacher.commit import BackgroundCommits, ShardOutput

Compute = Callable[[Sequence[Shard]], Generator[ShardOutput, None, None]]
Commit = Callable[[ShardOutput], None]

OF_THE_MACHINE = (StoreError, RemoteError, OSError, MemoryError, torch.OutOfMemoryError)
"""Errors that say nothing about a shard: the disk, the network, the memory, another process."""

SIGNS_OF_THE_MACHINE = ("CUDA error", "CUDA driver", "DataLoader worker (pid")
"""How the texts of others begin."""

MOST_AT_FIRST = 3
"""Shards that may fail before the first one is done: with more it is the process that fails, and not the shards."""


def do_shards(root: Place, shards: Sequence[Shard], *, compute: Compute, commit: Commit) -> None:
    """Compute and commit some shards. One that fails is tried again after the others, until it has failed 3 times, in
    this process or others. An error that is none of a shard's is raised at once."""
    tries, left = _Tries(root), list(shards)
    while left:
        tries.failed.clear()
        _do_each(left, tries, compute=compute, commit=commit)
        attempts = count_attempts(root)
        left = [shard for shard in tries.failed if attempts[shard.name] < MOST_ATTEMPTS]


class _Tries:
    """Which shards have failed in this process, on two threads."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._is_any_done = False
        self._names: set[str] = set()
        self.failed: list[Shard] = []

    def succeed(self) -> None:
        self._is_any_done = True

    def fail(self, shard: Shard, error: Exception) -> None:
        """Raises the error where it isn't the shard's."""
        if not _is_of_shard(error):
            raise error
        with self._lock:
            note_attempt(self._root, shard, error)
            self._names.add(shard.name)
            self.failed.append(shard)
        if not self._is_any_done and len(self._names) >= MOST_AT_FIRST:
            raise error


def _do_each(shards: Sequence[Shard], tries: _Tries, *, compute: Compute, commit: Commit) -> None:
    def commit_or_fail(output: ShardOutput) -> None:
        try:
            commit(output)
        except Exception as error:
            tries.fail(output.shard, error)
        else:
            tries.succeed()

    left = deque(shards)
    with BackgroundCommits(commit_or_fail) as commits:
        while left:
            with closing(compute(list(left))) as outputs:
                _take(outputs, left, tries, commits)


def _take(
    outputs: Generator[ShardOutput, None, None], left: deque[Shard], tries: _Tries, commits: BackgroundCommits
) -> None:
    """Until all are computed, or one fails."""
    while left:
        try:
            output = next(outputs)
        except Exception as error:
            tries.fail(left.popleft(), error)
            return
        left.popleft()
        commits.put(output)


def _is_of_shard(error: BaseException) -> bool:
    if isinstance(error, ModelError) and error.__cause__ is not None:  # what a model raised by itself
        return _is_of_shard(error.__cause__)
    accelerator: type[Exception] | None = getattr(torch, "AcceleratorError", None)  # of torch 2.8 and later
    is_of_machine = isinstance(error, OF_THE_MACHINE) or (accelerator is not None and isinstance(error, accelerator))
    return not (is_of_machine or str(error).startswith(SIGNS_OF_THE_MACHINE))
