"""Write the same rows in the other format, or a store of format version 1 in today's: what is stored is carried over to
the bit."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from softlab.manifest import Manifest, StorePlan, in_version_2, version_for
from softlab.store.access import writing
from softlab.store.folder import find_finished
from softlab.store.format import FormatName
from softlab.store.place import place_of
from softlab.store.reader import Store


def convert_store(
    store: Store,
    out: str | Path,
    *,
    format: FormatName,
    on_shard: Callable[[int, int], None] | None = None,
) -> Manifest:
    """A store at `out` with the same rows, fingerprints and shards in another format; its `parent` is the old digest.

    `on_shard(done, total)` is called after each shard. An interrupted conversion goes on when it is called again.
    Raises DamagedStore if a shard of the old store is not what its manifest records, else as `writing`.
    """
    place = place_of(out)
    plan = _plan_of(store, format=format)
    finished = find_finished(place, plan)
    if finished is not None:
        return finished
    samples = store.read_samples()
    groups = dict.fromkeys(field.group for field in store.manifest.storage.fields)
    names = {old.name: new.name for old, new in zip(store.manifest.storage.fields, plan.storage.fields, strict=True)}
    digests = [store.read_pixel_digests(view) for view in range(plan.views.num_views)]
    with writing(place, plan, recipe_N=samples.recipe_N) as writer:
        pending = writer.pending
        for done, shard in enumerate(pending, start=1):
            read = [store.read_shard(shard, group=group) for group in groups]
            arrays = {names[name]: array for group in read for name, array in group.items()}
            writer.write(
                shard,
                arrays=arrays,
                content_hashes=list(samples.content_hashes[shard.start : shard.stop]),
                statistics=store.shard_record(shard).statistics,
                pixel_digests=digests[shard.view].within(shard.start, shard.stop),
                rows_S=None if samples.rows_N is None else samples.rows_N[shard.start : shard.stop],
                precisions=store.shard_record(shard).precisions,
                cut_off=store.shard_record(shard).cut_off,
                tokens=store.shard_record(shard).tokens,
            )
            if on_shard is not None:
                on_shard(done, len(pending))
        return writer.finalize(samples)


def _plan_of(store: Store, *, format: FormatName) -> StorePlan:
    """Always of today's format version."""
    plan = in_version_2(store.manifest.plan)
    storage = msgspec.structs.replace(plan.storage, format=format)
    version = version_for(plan.source.num_samples)
    return msgspec.structs.replace(plan, format_version=version, storage=storage, parent=store.digest)
