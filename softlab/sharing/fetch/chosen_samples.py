"""Choose samples of a store by their keys, and plan a store of these samples alone."""

# Shape letters: N samples, those that were chosen.

import math
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from softlab.errors import InvalidOption
from softlab.identity import ContentHashes, keys_fingerprint
from softlab.indices import RecipeIndex, StoreIndex
from softlab.keys import Keys, find_all, read_keys
from softlab.manifest import FieldRecord, StorageRecord, StorePlan, version_for
from softlab.store.reader import Store
from softlab.store.samples import SampleTable


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenSamples:
    """Some samples of a store."""

    store_N: StoreIndex
    """Their indices in the store, ascending."""

    table: SampleTable
    """Their keys, targets and content hashes, and the recipe index of each."""

    def fitted_to(self, plan: StorePlan) -> "ChosenSamples":
        """Without counts of rows, where the plan leaves out every output with units."""
        return self if plan.has_units else replace(self, table=replace(self.table, rows_N=None))


def choose_samples(store: Store, path: Path) -> ChosenSamples | None:
    """The samples whose keys are in a text file, one a line; None if these are all samples of the store. Raises
    InvalidOption for a key that no sample has, and for a store whose views are mixed."""
    table = store.read_samples()
    store_N = StoreIndex(find_all(read_keys(path), Keys(table.keys), where=f"{store.name} (--samples {path})"))
    if len(store_N) == len(table):
        return None
    if store.manifest.views.mixing is not None:
        raise InvalidOption(
            f"{store.name}: its views are mixed with any other of its samples (MixUp, CutMix), so a part of the "
            f"samples can't be replayed. Leave --samples out; --views pulls some of the views."
        )
    return ChosenSamples(store_N=store_N, table=_take(table, store_N))


def plan_samples(plan: StorePlan, chosen: ChosenSamples) -> StorePlan:
    """The plan of a store with some of the samples, numbered from 0."""
    source, count = plan.source, len(chosen.table)
    source = msgspec.structs.replace(
        source,
        num_samples=count,
        keys_fingerprint=keys_fingerprint(chosen.table.keys),
        skipped=(),
        chosen_from=source.chosen_from or source.num_samples,
    )
    version = 1 if plan.format_version == 1 else version_for(count)
    storage = _fit(plan, chosen.table)
    return msgspec.structs.replace(plan, format_version=version, source=source, storage=storage)


def _take(table: SampleTable, store_N: StoreIndex) -> SampleTable:
    hashes_N16 = ContentHashes(table.content_hashes).bytes_N16[store_N]
    return SampleTable(
        keys=Keys(table.keys).take(store_N),
        targets_N=None if table.targets_N is None else table.targets_N[store_N],
        content_hashes=ContentHashes.from_bytes(np.ascontiguousarray(hashes_N16)),
        recipe_N=RecipeIndex(store_N if table.recipe_N is None else table.recipe_N[store_N]),
        rows_N=None if table.rows_N is None else table.rows_N[store_N],
    )


def _fit(plan: StorePlan, table: SampleTable) -> StorageRecord:
    """Shards of as many samples, but no larger than the samples fill, in whole chunks; with room for the units of those
    samples that now share one."""
    storage, axes = plan.storage, {field: plan.axis_of(field.group) for field in plan.storage.fields}
    are_units = {field: plan.output_of(field).units and axis != "sample" for field, axis in axes.items()}
    # A shard has room for so many entries for each row: of rows it is a part of a chunk of these.
    most = {field: max(plan.shard_capacity(field), 1) // _room_of(plan, field) for field in plan.storage.fields}
    chunks = {field: field.chunk_rows // math.gcd(field.chunk_rows, most[field]) for field in plan.storage.fields}
    step = math.lcm(*(chunks[field] for field, is_unit in are_units.items() if not is_unit))
    shard_rows = min(storage.shard_rows, -(-len(table) // step) * step)
    storage = msgspec.structs.replace(storage, shard_rows=shard_rows)
    if table.rows_N is None or storage.shard_units is None:
        return storage
    step = math.lcm(*(chunks[field] for field, is_unit in are_units.items() if is_unit))
    most_units = int(np.add.reduceat(table.rows_N, np.arange(0, len(table), shard_rows)).max())
    return msgspec.structs.replace(storage, shard_units=max(-(-most_units // step), 1) * step)


def _room_of(plan: StorePlan, field: FieldRecord) -> int:
    """Rows of a shard, of those that a field has so many entries for."""
    storage, is_of_samples = plan.storage, plan.axis_of(field.group) == "sample" or not plan.output_of(field).units
    return storage.shard_rows if is_of_samples or storage.shard_units is None else storage.shard_units
