"""How far a dump is, read from its folder by anybody, while others write there."""

from dataclasses import dataclass
from pathlib import Path

from softlab.store.folder import is_unfinished, plan_of_added_views, read_plan
from softlab.store.manifest_file import read_manifest
from softlab.store.shard_numbers import tell_numbers
from softlab.store.writer import StoreWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpState:
    """What is there of a store, and what is missing."""

    out: Path
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


def dump_state(out: str | Path) -> DumpState:
    """How far a dump is; nothing is locked or changed. Raises NotAStore where none was begun."""
    out = Path(out)
    plan = read_plan(out) if is_unfinished(out) else plan_of_added_views(out)
    return _finished(out) if plan is None else _under_way(StoreWriter(out, plan))


def _finished(out: Path) -> DumpState:
    manifest, _ = read_manifest(out)
    rows = sum(shard.stop - shard.start for shard in manifest.shards)
    return DumpState(
        out=out,
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
    return DumpState(
        out=writer.root,
        is_finished=False,
        shards=len(records),
        total_shards=len(writer.own_shards),
        rows=sum(record.stop - record.start for record in records),
        total_rows=sum(shard.num_rows for shard in writer.own_shards),
        bytes=sum(file.bytes for record in records for file in record.files),
        missing=tell_numbers(writer.missing, most=None),
    )
