"""What stores say about the rows of batches, for several batches at a time: one gather, one copy, one decoding."""

# Shape letters: B rows in a batch.

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from softlab.labels.soft_labels import SoftLabels
from softlab.loading.aligned import Aligned
from softlab.loading.order import Numbers, RowNumbers
from softlab.store.reader import Store
from softlab.store.rows import Rows

BLOCK_BATCHES = 32
BLOCK_BYTES = 16 << 20
"""Of packed rows read at a time, where a batch is not more by itself."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stored:
    """What the teachers said about B rows."""

    labels: tuple[SoftLabels, ...] = ()
    """One a store."""

    features: Mapping[str, Tensor] = field(default_factory=dict)


def read_stored(aligned: Aligned, order: Iterable[RowNumbers], device: torch.device) -> Iterator[Stored]:
    """For each batch of an order, on the device. Raises what reading a store raises, up to a block early."""
    for block in _blocks(aligned, order):
        yield from _read_block(aligned, block, device)


def _blocks(aligned: Aligned, order: Iterable[RowNumbers]) -> Iterator[list[RowNumbers]]:
    row_bytes = sum(store.row_bytes() for store in aligned.stores)
    row_bytes += sum(store.row_bytes(name) for name, store in aligned.features.items())
    block: list[RowNumbers] = []
    for rows in order:
        block.append(rows)
        if len(block) == BLOCK_BATCHES or sum(map(len, block)) * row_bytes >= BLOCK_BYTES:
            yield block
            block = []
    if block:
        yield block


def _read_block(aligned: Aligned, block: list[RowNumbers], device: torch.device) -> Iterator[Stored]:
    sizes = [len(rows) for rows in block]
    samples = aligned.in_store(np.concatenate([rows.samples_B for rows in block]))
    # Views without end, where other views than the store's were allowed, meet the store's in turn.
    views = np.concatenate([rows.views_B for rows in block]) % aligned.num_stored_views
    view = _one_or_each(views)

    def read(store: Store, feature: str | None = None) -> Tensor:
        return _to_device(store.read_packed(samples, view=view, feature=feature), device)

    labels = [store.unpack(read(store)).split(sizes) for store in aligned.stores]
    features = {
        name: torch.split(store.unpack_features(name, read(store, name)), sizes)
        for name, store in aligned.features.items()
    }
    for number in range(len(block)):
        yield Stored(
            labels=tuple(each[number] for each in labels),
            features={name: each[number] for name, each in features.items()},
        )


def _one_or_each(views: Numbers) -> int | Numbers:
    """A single number where all rows are of one view, which is read in one piece."""
    is_one = len(views) > 0 and bool((views == views[0]).all())
    return int(views[0]) if is_one else views


def _to_device(rows: Rows, device: torch.device) -> Tensor:
    """Through page-locked memory where the device is CUDA, because only such a copy doesn't wait."""
    host = torch.from_numpy(rows)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
