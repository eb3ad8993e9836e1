"""What a dump finds on disk when it goes on: shards of its first run, or of the finished store that views are added to.
They are read here before there is a manifest that names all of them."""

# Shape letters: N samples of the store, S samples of a shard, R rows of one sample.

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from softlab.errors import DamagedStore
from softlab.manifest import OutputRecord, ShardRecord, StorePlan
from softlab.store.commit_record import CommitRecord, rows_of
from softlab.store.files import read_file
from softlab.store.format import Array, counts_in, empty_arrays
from softlab.store.known_formats import format_named
from softlab.store.reader import Store
from softlab.store.writer import StoreWriter

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredShard:
    """One of them, decoded."""

    record: ShardRecord
    plan: StorePlan
    arrays: Mapping[str, Array]
    """By field name, as they are stored."""

    content_hashes: Sequence[bytes]
    rows_S: NDArray[np.int64] | None
    """How many rows each sample has in an output with units."""

    def rows_of(self, sample: int, output: OutputRecord) -> dict[str, Array]:
        """Those of one sample, [R, ...] by the short name of their array; R is 1 without units. Where rows have
        entries, these too."""
        found: dict[str, Array] = {}
        for group in self.plan.groups_of(output):
            start, stop = sample - self.record.start, sample - self.record.start + 1
            counts_S = counts_in(self.plan, group, self.arrays, rows_S=self.rows_S)
            if counts_S is not None:
                start, stop = int(counts_S[:start].sum()), int(counts_S[:stop].sum())
            fields = self.plan.storage.fields_of(group)
            found |= {field.short_name: self.arrays[field.name][start:stop] for field in fields}
        return found


def ends_of_dump(writer: StoreWriter, *, but: Container[str] = ()) -> list[StoredShard]:
    """The first and the last shard of a dump under way, as far as it is, `but` for those of some names; none where
    nothing is written. Raises DamagedStore for one that isn't what was written: it is then written anew by the same
    command."""
    names = [shard.name for shard in writer.own_shards if writer.is_written(shard)]
    finished = [record for name, record in zip(names, writer.finished, strict=True) if name not in but]
    return [_of_dump(writer, record) for record in _ends(finished or writer.others(but=but))]


def ends_of_store(store: Store) -> list[StoredShard]:
    """The same of a finished store."""
    samples = store.read_samples()

    def read(record: ShardRecord) -> StoredShard:
        own = slice(record.start, record.stop)
        files = {file.path: read_file(store.path, file) for file in record.files}
        rows_S = None if samples.rows_N is None else samples.rows_N[own]
        hashes = samples.content_hashes[own]
        return _decode(store.name, store.manifest, record, files, hashes=hashes, rows_S=rows_S)

    return [read(record) for record in _ends(store.manifest.shards)]


def _of_dump(writer: StoreWriter, record: CommitRecord) -> StoredShard:
    rows_S = rows_of(record) if writer.plan.has_units else None
    hashes, files = writer.content_hashes(record), writer.read_files(record)
    return _decode(str(writer.root), writer.plan, record.shard, files, hashes=hashes, rows_S=rows_S)


def _ends(items: Sequence[Record]) -> list[Record]:
    return [*items[:1], *items[1:][-1:]]


def _decode(
    where: str,
    plan: StorePlan,
    record: ShardRecord,
    files: Mapping[str, bytes],
    *,
    hashes: Sequence[bytes],
    rows_S: NDArray[np.int64] | None,
) -> StoredShard:
    shard, format = plan.grid.shard_at(record.view, record.start), format_named(plan.storage.format)
    arrays: dict[str, Array] = {}
    for group in (group for output in plan.outputs for group in plan.groups_of(output)):
        fields = plan.storage.fields_of(group)
        counts_S = counts_in(plan, group, arrays, rows_S=rows_S)  # of entries, by an array of a group before theirs
        num_rows, room = shard.num_rows if counts_S is None else int(counts_S.sum()), plan.shard_capacity(fields[0])
        if num_rows > room:
            raise DamagedStore(
                f"{where}: shard {shard.name} of {group} has {num_rows:,} rows, and room for {room:,}. Get the store "
                f"again."
            )
        own, paths = empty_arrays(fields, num_rows=num_rows), {format.path_of(field, shard) for field in fields}
        try:
            format.decode(plan, shard, fields, {path: files[path] for path in paths}, own)
        except (ValueError, LookupError, OSError, RuntimeError) as error:  # whatever Blosc and Arrow raise
            raise DamagedStore(
                f"{where}: shard {shard.name} can't be decoded: {error}. Get the store again."
            ) from error
        arrays |= own
    return StoredShard(record=record, plan=plan, arrays=arrays, content_hashes=hashes, rows_S=rows_S)
