"""What stores hold for the rows of batches, for several batches at a time: one gather, one copy, one decoding."""

# Shape letters: B rows in a batch.

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, tee
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from softlab.indices import SourceIndex, StoreIndex
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.aligned import Aligned
from softlab.loading.order import RowIndices, ViewNumbers
from softlab.store.reader import Store
from softlab.store.rows import Rows

Item = TypeVar("Item")

BLOCK_BATCHES = 32
BLOCK_BYTES = 16 << 20
"""Of packed rows read at a time, where a batch is not more by itself."""

BLOCKS_AHEAD = 2
BATCHES_AHEAD = 8
"""Whose labels and whose features are asked for while a block or a batch is used, of stores that lie elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stored:
    """The outputs of the teachers for B rows."""

    labels: tuple[SoftLabels, ...] = ()
    """One a store."""

    features: Mapping[str, Tensor] = field(default_factory=dict)


def read_stored(
    aligned: Aligned, order: Iterable[RowIndices], device: torch.device, *, skip: int = 0
) -> Iterator[Stored]:
    """For each batch of an order but the first `skip`, on the device. Raises what reading a store raises, up to a block
    early.

    Blocks are counted from the order's beginning, so that a run resumed at step s, which has to begin its order at a
    multiple of BLOCK_BATCHES, computes with the very blocks of one that never stopped: to the last bit. Their size
    depends on labels alone, which all students share, and not on the features that one of them learns.
    """
    order, same_order = tee(order)
    features = _read_features(aligned, islice(same_order, skip, None), device)
    blocks = (_places(aligned, block) for block in _blocks(aligned, order))
    asked = _asked_ahead(blocks, lambda places: _ask_for_labels(aligned, places), count=BLOCKS_AHEAD)
    labels = (part for places in asked for part in _read_block(aligned, places, device))
    for each, learnt in zip(islice(labels, skip, None), features, strict=True):
        yield Stored(labels=each, features=learnt)


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where the rows of some batches are in the stores."""

    store_B: StoreIndex
    view: int | ViewNumbers
    """Of all of them, or of each."""

    batch_sizes: list[int]


def _asked_ahead(items: Iterable[Item], ask: Callable[[Item], None], *, count: int) -> Iterator[Item]:
    """The same items, each when so many behind it have been asked for."""
    waiting: deque[Item] = deque()
    for item in items:
        ask(item)
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _ask_for_labels(aligned: Aligned, places: _Places) -> None:
    for store in aligned.labelled:
        store.prefetch(places.store_B, view=places.view)


def _ask_for_features(aligned: Aligned, places: _Places) -> None:
    for name, store in aligned.features.items():
        store.prefetch(places.store_B, view=places.view, feature=name)


def _blocks(aligned: Aligned, order: Iterable[RowIndices]) -> Iterator[list[RowIndices]]:
    """Each of a power of two of batches, at most BLOCK_BATCHES of them."""
    order, row_bytes = iter(order), sum(store.row_bytes() * store.rows_per_sample for store in aligned.labelled)
    first = next(order, None)
    if first is None:
        return
    most = max(int(BLOCK_BYTES // max(len(first) * row_bytes, 1)), 1)
    size = min(BLOCK_BATCHES, 1 << (most.bit_length() - 1))
    rest = chain([first], order)
    while block := list(islice(rest, size)):
        yield block


def _read_block(aligned: Aligned, places: _Places, device: torch.device) -> Iterator[tuple[SoftLabels, ...]]:
    """The outputs of all teachers for each batch of a block."""
    if not aligned.labelled:
        return iter([()] * len(places.batch_sizes))
    read = [_read_labels(store, places, device) for store in aligned.labelled]
    return zip(*(labels.split(places.batch_sizes) for labels in read), strict=True)


def _read_labels(store: Store, places: _Places, device: torch.device) -> SoftLabels:
    rows = _to_device(store.read_packed(places.store_B, view=places.view), device)
    return store.unpack(rows, counts_B=store.counts(places.store_B))


def _read_features(aligned: Aligned, order: Iterable[RowIndices], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Batch by batch: a feature may be a thousand times as large as labels."""
    batches = (_places(aligned, [rows]) for rows in order)
    for places in _asked_ahead(
        batches, lambda places: _ask_for_features(aligned, places), count=BATCHES_AHEAD if aligned.features else 0
    ):
        yield {
            name: store.unpack_features(
                name, _to_device(store.read_packed(places.store_B, view=places.view, feature=name), device)
            )
            for name, store in aligned.features.items()
        }


def _places(aligned: Aligned, block: list[RowIndices]) -> _Places:
    # Views without end, where other views than the store's were allowed, meet the store's in turn.
    views_B = np.concatenate([rows.views_B for rows in block]) % aligned.num_stored_views
    return _Places(
        aligned.to_store(SourceIndex(np.concatenate([rows.source_B for rows in block]))),
        _one_or_each(views_B),
        [len(rows) for rows in block],
    )


def _one_or_each(views: ViewNumbers) -> int | ViewNumbers:
    """A single number where all rows are of one view, which is read in one piece."""
    is_one = len(views) > 0 and bool((views == views[0]).all())
    return int(views[0]) if is_one else views


def _to_device(rows: Rows, device: torch.device) -> Tensor:
    """Through page-locked memory where the device is CUDA, because only such a copy doesn't wait."""
    host = torch.from_numpy(rows)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
