"""Choose samples of a store by their keys, and plan a store of these samples alone."""

# Shape letters: N samples, those that were chosen.

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption
from softlab.identity import ContentHashes, keys_fingerprint
from softlab.keys import Keys, find_all, read_keys
from softlab.manifest import StorageRecord, StorePlan
from softlab.store.reader import Store
from softlab.store.samples import SampleTable


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenSamples:
    """Some samples of a store."""

    samples_N: NDArray[np.int64]
    """Their indices in the store, ascending."""

    table: SampleTable
    """Their keys, targets and content hashes, and the index that each had when the teacher saw it."""


def choose_samples(store: Store, path: Path) -> ChosenSamples | None:
    """The samples whose keys are in a text file, one a line; None if these are all samples of the store. Raises
    InvalidOption for a key that no sample has, and for a store whose views are mixed."""
    table = store.read_samples()
    samples_N = find_all(read_keys(path), Keys(table.keys), where=f"{store.name} (--samples {path})")
    if len(samples_N) == len(table):
        return None
    if store.manifest.views.mixing is not None:
        raise InvalidOption(
            f"{store.name}: its views are mixed with any other of its samples (MixUp, CutMix), so a part of the "
            f"samples can't be replayed. Leave --samples out; --views pulls some of the views."
        )
    return ChosenSamples(samples_N=samples_N, table=_take(table, samples_N))


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
    return msgspec.structs.replace(plan, source=source, storage=_fit(plan.storage, count))


def _take(table: SampleTable, samples_N: NDArray[np.int64]) -> SampleTable:
    hashes_N16 = ContentHashes(table.content_hashes).bytes_N16[samples_N]
    return SampleTable(
        keys=Keys(table.keys).take(samples_N),
        targets_N=None if table.targets_N is None else table.targets_N[samples_N],
        content_hashes=ContentHashes.from_bytes(np.ascontiguousarray(hashes_N16)),
        numbers_N=samples_N if table.numbers_N is None else table.numbers_N[samples_N],
    )


def _fit(storage: StorageRecord, num_samples: int) -> StorageRecord:
    """Shards of as many rows as before, or fewer if the samples need no more; always whole chunks."""
    unit = math.lcm(*(field.chunk_rows for field in storage.fields))
    rows = min(storage.shard_rows, -(-num_samples // unit) * unit)
    return msgspec.structs.replace(storage, shard_rows=rows)
