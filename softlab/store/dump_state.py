"""How far a dump is, read from its folder by anybody, while others write there."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from softlab.errors import StoreError
from softlab.manifest import ShardRecord
from softlab.remote.remote import Place
from softlab.store.attempts import FailedShard, find_failed
from softlab.store.folder import is_adding_views, is_unfinished, plan_of_added_views, read_plan
from softlab.store.manifest_file import read_manifest
from softlab.store.place import place_of
from softlab.store.shard_numbers import tell_numbers
from softlab.store.workers import WorkerRecord, read_workers
from softlab.store.writer import StoreWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerState:
    """A process that writes shards, or did so."""

    host: str
    pid: int
    seen: datetime
    """When it last told of itself, by the clock of its machine."""

    is_at_work: bool
    """Neither ended nor silent for long."""

    shards: int
    rows: int
    """Committed by it."""

    rows_per_second: float | None
    """Of its last shards; None before the first one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpState:
    """What is there of a store, and what is missing."""

    out: str
    """Its place as it is printed."""

    is_finished: bool
    """Whether the manifest is written: all shards may be there before."""

    shards: int
    total_shards: int
    """Of this dump: those of a finished store that views are added to don't count."""

    rows: int
    """Of the shards that are there; one a sample and view."""

    total_rows: int
    bytes: int
    missing: str
    """Shards that aren't there, as `--shards` takes them: 0,4,8-11; empty where none is missing."""

    rows_per_second: float | None = None
    """Of all processes that are at work, each over its last shards; None where none is, or all are at their first."""

    seconds_left: float | None = None
    """At that rate."""

    workers: tuple[WorkerState, ...] = ()
    """Those of which something is known, the one that was heard of last first."""

    failed: tuple[FailedShard, ...] = ()
    """Shards that have failed and aren't there."""


def dump_state(out: str | Place) -> DumpState:
    """How far a dump is; nothing is locked or changed. Raises NotAStore where none was begun."""
    place, state = place_of(out), None
    try:
        plan = read_plan(place) if is_unfinished(place) else plan_of_added_views(place)
        state = None if plan is None else _under_way(StoreWriter(place, plan))
    except StoreError:
        if is_unfinished(place) or is_adding_views(place):
            raise
    is_under_way = state is not None and (is_unfinished(place) or is_adding_views(place))  # and not finished meanwhile
    return state if state is not None and is_under_way else _finished(place)


def _finished(out: Place) -> DumpState:
    manifest, _ = read_manifest(out)
    rows = sum(map(_rows, manifest.shards))
    return DumpState(
        out=str(out),
        is_finished=True,
        shards=len(manifest.shards),
        total_shards=len(manifest.shards),
        rows=rows,
        total_rows=rows,
        bytes=sum(file.bytes for file in manifest.files),
        missing="",
    )


def _under_way(writer: StoreWriter) -> DumpState:
    records = [record.shard for record in writer.finished]
    rows, total_rows = sum(map(_rows, records)), sum(shard.num_rows for shard in writer.own_shards)
    workers = [_state_of(each, now_s=time.time()) for each in read_workers(writer.root)]
    rate = _rate(workers)
    return DumpState(
        out=str(writer.root),
        is_finished=False,
        shards=len(records),
        total_shards=len(writer.own_shards),
        rows=rows,
        total_rows=total_rows,
        bytes=sum(file.bytes for record in records for file in record.files),
        missing=tell_numbers(writer.missing, most=None),
        rows_per_second=rate,
        seconds_left=None if rate is None else (total_rows - rows) / rate,
        workers=tuple(workers),
        failed=tuple(find_failed(writer)),
    )


def _rows(record: ShardRecord) -> int:
    return record.stop - record.start


def _state_of(worker: WorkerRecord, *, now_s: float) -> WorkerState:
    return WorkerState(
        host=worker.host,
        pid=worker.pid,
        seen=datetime.fromtimestamp(worker.at_s, UTC),
        is_at_work=worker.is_at_work(now_s),
        shards=worker.shards,
        rows=worker.rows,
        rows_per_second=worker.rows_per_second,
    )


def _rate(workers: Sequence[WorkerState]) -> float | None:
    rates = [each.rows_per_second for each in workers if each.is_at_work and each.rows_per_second]
    return sum(rates) if rates else None
