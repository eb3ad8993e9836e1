"""Write the same rows in the other format; what is stored is carried over to the bit."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from softlab.manifest import Manifest, StorePlan
from softlab.store.folder import find_finished
from softlab.store.format import FormatName
from softlab.store.reader import Store
from softlab.store.writer import writing


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
    out = Path(out)
    plan = _plan_of(store, format=format)
    finished = find_finished(out, plan)
    if finished is not None:
        return finished
    samples = store.read_samples()
    groups = dict.fromkeys(field.group for field in plan.storage.fields)
    digests = [store.read_pixel_digests(view) for view in range(plan.views.num_views)]
    with writing(out, plan, recipe_N=samples.recipe_N) as writer:
        pending = writer.pending
        for done, shard in enumerate(pending, start=1):
            arrays = {name: array for group in groups for name, array in store.read_shard(shard, group=group).items()}
            writer.write(
                shard,
                arrays=arrays,
                content_hashes=list(samples.content_hashes[shard.start : shard.stop]),
                statistics=store.shard_record(shard).statistics,
                pixel_digests=digests[shard.view].within(shard.start, shard.stop),
            )
            if on_shard is not None:
                on_shard(done, len(pending))
        return writer.finalize(samples)


def _plan_of(store: Store, *, format: FormatName) -> StorePlan:
    values = {name: getattr(store.manifest, name) for name in StorePlan.__struct_fields__}
    values["storage"] = msgspec.structs.replace(store.manifest.storage, format=format)
    values["parent"] = store.digest
    return StorePlan(**values)
