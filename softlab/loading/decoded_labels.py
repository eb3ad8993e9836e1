"""The soft labels of a small store, decoded once, so that a batch of them is only a gather.

A batch of 128 rows costs 0.1 ms less, which a loader without workers would take from each step.
"""

# Shape letters: B samples in a batch.

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from softlab.indices import StoreIndex
from softlab.labels.soft_labels import SoftLabels
from softlab.store.reader import Store

MAX_BYTES = 64 << 20
"""Of one view's decoded labels, which are kept beside the row cache."""


class DecodedLabels:
    """Reads a store's labels from memory where they are few and lie on this machine, else from the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._is_small = (
            isinstance(store.path, Path)
            and store.has_labels
            and not store.labels.units
            and store.num_samples * _decoded_row_bytes(store) <= MAX_BYTES
        )
        self._held: tuple[int, SoftLabels] | None = None
        """A view and its labels."""

    def read(self, store_B: StoreIndex, *, view: int | NDArray[Any]) -> SoftLabels:
        """As `Store.read`. A loader's worker reads the store: it works beside the steps, and each would hold a copy."""
        if not self._is_small or not isinstance(view, int) or get_worker_info() is not None:
            return self.store.read(store_B, view=view)
        if self._held is None or self._held[0] != view:
            self._held = view, self.store.read(range(self.store.num_samples), view=view)
        samples_B = torch.from_numpy(store_B)
        return self._held[1].with_each(lambda tensor: tensor.index_select(0, samples_B))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}


def _decoded_row_bytes(store: Store) -> int:
    """An int64 and a float32 for each kept class, and float32 tails and a largest logit."""
    return 12 * store.k + 4 * len(store.temperatures) + 4
