"""What an engine is, and how a dump that was planned is carried out with one."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import torch

from softlab.amounts import format_count
from softlab.errors import DamagedStore, StoreBusy, UnfinishedStore
from softlab.shards import Shard
from softlab.store.access import joining, settle_plan
from softlab.teacher.engines.shard_queue import MAX_TRIES, ShardQueue
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.shared_dump import tell_damaged

FREE_S, POLL_S = 60.0, 0.5
"""How long workers of an earlier call may still be at a shard when all are there, and how often that is looked at."""

OnShard = Callable[[int], None]
"""Called with the number of each shard that is there."""

OnWorkers = Callable[[int], None]
"""Called with the number of workers that are ready, whenever that changes."""

OnRows = Callable[[int, int], None]
"""Called with the rows that were computed by now, and how many workers are at it."""


class Engine(Protocol):
    """Has shards of a job computed by workers of some kind."""

    def run(self, job: DumpJob, shards: ShardQueue, *, on_shard: OnShard, on_workers: OnWorkers) -> None:
        """Until the queue is over. A shard may be computed twice: that does no harm."""
        ...


def finish_with(engine: Engine, job: DumpJob, *, on_rows: OnRows) -> int:
    """Have all that is left of a dump computed, and finish its store; returns the rows that were computed.

    Raises UnfinishedStore where shards failed MAX_TRIES times, once all others are there; else as `dump_teacher`."""
    settle_plan(job.out, job.plan, expected=job.expected_samples, find_staying=job.find_staying)
    job.teacher.module.to("cpu")  # as it is sent to workers, each of which has a device of its own
    torch.cuda.empty_cache()  # which may be this very one
    rows = _compute_pending(engine, job, on_rows=on_rows)
    try:
        _finalize(job)
    except DamagedStore:  # those shards have no record any more
        rows += _compute_pending(engine, job, on_rows=on_rows)
        _finalize(job)
    return rows


def _compute_pending(engine: Engine, job: DumpJob, *, on_rows: OnRows) -> int:
    with joining(job.out, job.plan, recipe_N=job.recipe_N) as writer:
        job.check_contents(writer)
        tell_damaged(writer)
        pending, total = writer.pending, sum(shard.num_rows for shard in writer.own_shards)
    rows = sum(shard.num_rows for shard in pending)
    seen = _Seen(rows=total - rows, on_rows=on_rows)
    queue = ShardQueue(_numbers(job, pending))
    if pending:
        engine.run(
            job,
            queue,
            on_shard=lambda number: seen.add(job.shard(number).num_rows),
            on_workers=seen.change_workers,
        )
    if queue.set_aside:
        raise UnfinishedStore(tell_set_aside(job, queue))
    return rows


class _Seen:
    """What is known of how far all workers are."""

    def __init__(self, *, rows: int, on_rows: OnRows) -> None:
        self._rows, self._workers, self._on_rows = rows, 0, on_rows

    def add(self, rows: int) -> None:
        self._rows += rows
        self._on_rows(self._rows, self._workers)

    def change_workers(self, count: int) -> None:
        self._workers = count
        self._on_rows(self._rows, self._workers)


def _numbers(job: DumpJob, pending: Sequence[Shard]) -> list[int]:
    parts = job.plan.grid.parts_per_view
    return [(shard.view - job.first_view) * parts + shard.part for shard in pending]


def _finalize(job: DumpJob) -> None:
    """Workers of a call that was killed may be at a shard for a moment longer, which is there by now."""
    until = time.monotonic() + FREE_S
    while time.monotonic() < until:
        with suppress(StoreBusy):
            finalize(job.out)
            return
        time.sleep(POLL_S)
    finalize(job.out)


def tell_set_aside(job: DumpJob, queue: ShardQueue) -> str:
    """Which shards failed, with the error of the first one."""
    number, error = next(iter(queue.set_aside.items()))
    names = ", ".join(job.shard(each).name for each in queue.set_aside)
    others = "all others are finished" if not queue.num_left else "no further ones were tried"
    return (
        f"{job.out}: {format_count(len(queue.set_aside), 'shard')} failed {MAX_TRIES} times ({names}), and {others}. "
        f"{job.shard(number).name}: {error.rstrip('.')}. Mend that, then run the same command again to go on."
    )
