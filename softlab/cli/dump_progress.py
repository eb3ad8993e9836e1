"""`softlab progress`: how far a dump is that any number of processes write."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from softlab.amounts import format_bytes, format_count, format_duration
from softlab.cli.say import say
from softlab.cli.tables import print_facts
from softlab.store.dump_state import DumpState, WorkerState, dump_state

MOST_WORKERS, MOST_RANGES = 8, 20
"""That are shown; JSON has all."""


def dump_progress(
    store: Annotated[str, typer.Argument(help="Folder that a dump is written to.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the state as JSON.")] = False,
) -> None:
    """Show what is there of a store, what is missing, who is at work on it and how long it will take.

    Nothing is locked or changed.
    """
    state = dump_state(store)
    if as_json:
        print(json.dumps(asdict(state), indent=1, default=_as_text))
    else:
        print_state(state)


def print_state(state: DumpState) -> None:
    """What is there, what is left, and the command that comes next."""
    facts = {
        "store": str(state.out),
        "shards": f"{state.shards:,} of {state.total_shards:,}",
        "rows": f"{state.rows:,} of {state.total_rows:,}",
        "bytes": format_bytes(state.bytes),
    }
    if state.missing:
        facts["missing"] = _shortened(state.missing)
    if state.rows_per_second is not None and state.seconds_left is not None:
        facts["rate"] = f"{state.rows_per_second:,.1f} rows/s, {format_duration(state.seconds_left)} left"
    print_facts(facts | {"next": _next_step(state)})
    now = datetime.now(UTC)
    for worker in state.workers[:MOST_WORKERS]:
        say(_worker_line(worker, now))
    if len(state.workers) > MOST_WORKERS:
        say(f"and {len(state.workers) - MOST_WORKERS:,} more")
    for shard in state.failed:
        aside = " and is set aside" if shard.is_set_aside else ""
        say(f"shard {shard.number} failed {format_count(shard.attempts, 'time')}{aside}: {shard.error}")


def _shortened(missing: str) -> str:
    ranges = missing.split(",")
    more = f" and {len(ranges) - MOST_RANGES:,} more ranges" if len(ranges) > MOST_RANGES else ""
    return ",".join(ranges[:MOST_RANGES]) + more


def _next_step(state: DumpState) -> str:
    if state.is_finished:
        return "nothing, the store is finished"
    command = f"softlab finalize {state.out}"
    return f"{command}, once all shards are there" if state.missing else command


def _worker_line(worker: WorkerState, now: datetime) -> str:
    ago = format_duration(max((now - worker.seen).total_seconds(), 0.0))  # clocks differ, and are put back
    state = "at work" if worker.is_at_work else "no longer at work"
    shards = format_count(worker.shards, "shard")
    return f"{worker.host}, process {worker.pid}: {state}, {shards}, last heard of {ago} ago"


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
