"""What stores hold for the rows of batches, for several batches at a time: one gather, one copy, one decoding."""

# Shape letters: B rows in a batch.

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, repeat, tee
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.indices import SourceIndex, StoreIndex
from softlab.labels.on_device import copy_to
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.aligned import Aligned
from softlab.loading.order import RowIndices, ViewNumbers
from softlab.loading.own_rows import StoredUnits
from softlab.modalities.modality import tells_units
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

    units: StoredUnits | None = None
    """Of the rows of labels, where samples tell their units themselves."""


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
    parts = (part for places in asked for part in _read_block(aligned, places, device))
    for each, learnt in zip(islice(parts, skip, None), features, strict=True):
        yield replace(each, features=learnt)


def read_heads(
    aligned: Aligned, order: Iterable[RowIndices], device: torch.device, *, skip: int = 0
) -> Iterator[dict[str, Stored]]:
    """The same for each head of models with several; nothing of one that no store teaches."""
    orders = tee(order, len(aligned.heads))
    streams = {
        name: read_stored(head, own, device, skip=skip) if head.stores else repeat(Stored())
        for (name, head), own in zip(aligned.heads.items(), orders, strict=True)
    }
    for parts in zip(*streams.values(), strict=False):  # what no store teaches has no end
        yield dict(zip(streams, parts, strict=True))


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


def _read_block(aligned: Aligned, places: _Places, device: torch.device) -> Iterator[Stored]:
    """The labels of all teachers for each batch of a block."""
    if not aligned.labelled:
        return iter([Stored()] * len(places.batch_sizes))
    rows = [store.read_packed(places.store_B, view=places.view) for store in aligned.labelled]
    read = [_unpack(*each, places, device) for each in zip(aligned.labelled, rows, strict=True)]
    parts = [Stored(labels=part) for part in zip(*(labels.split(places.batch_sizes) for labels in read), strict=True)]
    if aligned.labelled[0].labels.units and any(map(tells_units, aligned.inputs)):
        parts = _with_units(parts, _same_numbers(aligned.labelled, rows), where=aligned.labelled[0].name)
    return iter(parts)


def _with_units(parts: Sequence[Stored], numbers: Tensor, *, where: str) -> list[Stored]:
    """`numbers` are those of the rows of all parts."""
    found, at = [], 0
    for part in parts:
        counts_B = part.labels[0].counts_B
        assert counts_B is not None, "a store with units tells them"
        numbers_S = numbers[at : (at := at + len(part.labels[0]))]
        found.append(replace(part, units=StoredUnits(counts_B=counts_B, numbers_S=numbers_S, where=where)))
    return found


def _unpack(store: Store, rows: Rows, places: _Places, device: torch.device) -> SoftLabels:
    return store.unpack(copy_to(device, torch.from_numpy(rows)), counts_B=store.counts(places.store_B))


def _same_numbers(stores: Sequence[Store], rows: Sequence[Rows]) -> Tensor:
    """Which units the rows of several teachers are of. Raises StoreMismatch where these differ."""
    first, *others = (store.unpack_units(each) for store, each in zip(stores, rows, strict=True))
    for store, numbers in zip(stores[1:], others, strict=True):
        if not numbers.equal(first):
            raise StoreMismatch(
                f"{store.name}: its rows are of other words than those of {stores[0].name}. Dump both with the same "
                f"`input.unit` and `input.max_length`, and tokenizers that leave out no word."
            )
    return first


def _read_features(aligned: Aligned, order: Iterable[RowIndices], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Batch by batch: a feature may be a thousand times as large as labels."""
    if not aligned.features:
        yield from ({} for _ in order)
        return
    batches = (_places(aligned, [rows]) for rows in order)
    for places in _asked_ahead(batches, lambda places: _ask_for_features(aligned, places), count=BATCHES_AHEAD):
        yield {
            name: store.unpack_features(name, copy_to(device, torch.from_numpy(rows)))
            for name, store in aligned.features.items()
            for rows in [store.read_packed(places.store_B, view=places.view, feature=name)]
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
