"""What belongs to no shard of a store: written once all of them are there, and the manifest last of all."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from msgspec import UNSET, UnsetType

from softlab.card.render import CARD_NAME, renewed_card
from softlab.identity import SourceFingerprint
from softlab.indices import StoreIndex
from softlab.manifest import (
    MANIFEST_NAME,
    FileRecord,
    FurtherSamplesRecord,
    Manifest,
    StorePlan,
    add_up_by_output,
    decode_manifest,
    encode,
    sample_parts,
)
from softlab.remote.remote import Place
from softlab.shards import Shard, ShardGrid
from softlab.store import samples
from softlab.store.commit_record import CommitRecord
from softlab.store.digest_names import digests_name
from softlab.store.files import write_files
from softlab.store.known_formats import format_named
from softlab.store.pixel_digests import PixelDigests, encode_digests
from softlab.store.place import files_at
from softlab.store.samples import SAMPLES_NAME, SampleTable, part_name, write_samples

Digested = Callable[[Shard], StoreIndex]
"""The samples of a shard whose pixel digests are kept."""


def write_last_files(
    root: Place,
    plan: StorePlan,
    *,
    parent: Manifest | None,
    tables: Iterable[SampleTable],
    records: Sequence[CommitRecord],
    digested: Digested,
) -> Manifest:
    """The manifest of the store that is finished now. `tables` are that of the samples, GROUP_ROWS at a time, `records`
    those of all shards of this dump, `parent` is the finished store that they are added to."""
    layout_files = write_files(root, format_named(plan.storage.format).layout_files(plan))
    fingerprint = SourceFingerprint()
    told = _told_to(fingerprint, tables)
    if parent is None:
        samples_files = _write_samples(root, plan, told)
    else:
        deque(told, maxlen=0)
    shards = (*(parent.shards if parent else ()), *(record.shard for record in records))
    manifest = Manifest(
        **{name: getattr(plan, name) for name in StorePlan.__struct_fields__},
        source_fingerprint=fingerprint.hexdigest(),
        samples_file=parent.samples_file if parent else samples_files[0],
        further_samples=parent.further_samples if parent else _further(samples_files),
        layout_files=layout_files,
        shards=shards,
        statistics=add_up_by_output(shards),
        digest_files=(*(parent.digest_files if parent else ()), *_write_digests(root, plan, records, digested)),
    )
    card = renewed_card(_read_card(root), manifest)
    if card is not None:
        write_files(root, {CARD_NAME: card.encode()})
    data = encode(manifest)
    write_files(root, {MANIFEST_NAME: data})
    return decode_manifest(data, where=str(root / MANIFEST_NAME))[0]  # with its hash of itself


def _told_to(fingerprint: SourceFingerprint, tables: Iterable[SampleTable]) -> Iterator[SampleTable]:
    for table in tables:
        fingerprint.add(table.keys, table.content_hashes)
        yield table


def _write_samples(root: Place, plan: StorePlan, tables: Iterator[SampleTable]) -> list[FileRecord]:
    """The table of samples, which in format 3 has several parts."""
    if plan.format_version < 3:
        return [_write_part(root, plan, SAMPLES_NAME, tables, start=0)]
    grid = ShardGrid(num_views=1, num_samples=plan.source.num_samples, shard_rows=sample_parts.PART_ROWS)
    assert grid.shard_rows % samples.GROUP_ROWS == 0, "a part has whole stretches"
    return [
        _write_part(
            root,
            plan,
            part_name(part.part),
            islice(tables, -(-part.num_rows // samples.GROUP_ROWS)),
            start=part.start,
        )
        for part in grid
    ]


def _write_part(root: Place, plan: StorePlan, path: str, tables: Iterable[SampleTable], *, start: int) -> FileRecord:
    is_part, has_rows = plan.source.chosen_from is not None, plan.has_units
    return files_at(root).fill(
        path, lambda file: write_samples(file, tables, has_recipe_indices=is_part, has_rows=has_rows, start=start)
    )


def _further(files: Sequence[FileRecord]) -> FurtherSamplesRecord | UnsetType:
    return UNSET if len(files) == 1 else FurtherSamplesRecord(part_rows=sample_parts.PART_ROWS, files=tuple(files[1:]))


def _write_digests(
    root: Place, plan: StorePlan, records: Sequence[CommitRecord], digested: Digested
) -> tuple[FileRecord, ...]:
    """One file a view of this dump."""
    if not plan.views.digest_every:
        return ()
    by_view: dict[int, list[CommitRecord]] = {}
    for record in records:
        by_view.setdefault(record.shard.view, []).append(record)
    joined = {view: _join_digests(plan, own, digested) for view, own in by_view.items()}
    return write_files(root, {digests_name(view): encode_digests(digests) for view, digests in joined.items()})


def _join_digests(plan: StorePlan, records: Sequence[CommitRecord], digested: Digested) -> PixelDigests:
    shards = [plan.grid.shard_at(record.shard.view, record.shard.start) for record in records]
    return PixelDigests(
        store_D=StoreIndex(np.concatenate([digested(shard) for shard in shards])),
        digests_D=np.frombuffer(b"".join(record.pixel_digests for record in records), dtype="<u8"),
    )


def _read_card(root: Place) -> str | None:
    card = files_at(root).read(CARD_NAME)
    return None if card is None else card.decode(errors="replace")
