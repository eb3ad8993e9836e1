"""What a store holds about the samples of a user's own data set, by their index or key there."""

# Shape letters: N samples of the data set, B of a batch.

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch, first_few
from softlab.indices import SourceIndex, StoreIndex
from softlab.keys import KeyIndex, Keys
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.order import WHOLE_SAMPLES, ViewNumbers, ViewOrder, epoch_views, views_of
from softlab.loading.shared_epoch import SharedEpoch
from softlab.store.reader import Store
from softlab.store.row_checks import are_within

STATE_VERSION = 1


class DatasetLabels:
    """Made by `softlab.align`, or part of a `softlab.ViewDataset`. Goes to a loader's workers without its rows: each
    opens the store anew, and all see the same row cache, the same order and the same epoch."""

    def __init__(
        self, store: Store, store_N: StoreIndex | None, *, view_order: ViewOrder = "cycle", seed: int = 0
    ) -> None:
        """`store_N` is None for a data set whose samples are known by their keys alone."""
        self.store, self.view_order, self.seed = store, view_order, seed
        self._num_samples = None if store_N is None else len(store_N)
        self._store_N: Tensor | None = None
        """In shared memory; None where it would be 0, 1, 2, .."""
        if store_N is not None and not np.array_equal(store_N, np.arange(store.num_samples)):
            self._store_N = torch.from_numpy(store_N).share_memory_()  # type: ignore[no-untyped-call]
        self._epoch = SharedEpoch()
        self._shown: tuple[int, ViewNumbers] | None = None

    def __len__(self) -> int:
        """N."""
        return self._require_indices()

    @property
    def epoch(self) -> int:
        return self._epoch.value

    def set_epoch(self, epoch: int) -> None:
        """Which epoch begins; of a store with several views it decides which of them is shown. Workers that are kept
        from epoch to epoch hear of it too. Raises InvalidOption for a negative one."""
        self._epoch.set(epoch)

    def state_dict(self) -> dict[str, Any]:
        """All that a loop that goes on in the middle of an epoch needs, beside its own sampler's state."""
        return {"version": STATE_VERSION, "epoch": self.epoch, "store": self.store.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises StoreMismatch for that of another store, InvalidOption for one of
        another version."""
        if state.get("version") != STATE_VERSION:
            raise InvalidOption(
                f"load_state_dict: version {state.get('version')}, expected {STATE_VERSION}. Go on with the softlab "
                f"that wrote it, or set_epoch instead."
            )
        if state["store"] != self.store.digest:
            raise StoreMismatch(
                f"{self.store.name}: is not the store that the run began with ({state['store'][:12]}, here "
                f"{self.store.digest[:12]}). Align that one, or begin a run of its own."
            )
        self.set_epoch(int(state["epoch"]))

    def read(self, samples: ArrayLike, *, views: ArrayLike | None = None) -> SoftLabels:
        """The soft labels of B samples by their index in the data set, in the views of this epoch, or in others.

        With units: the rows of all of them, and in `counts_B` how many each has. Raises StoreMismatch for an index that
        the data set doesn't have, and for a store without soft labels.
        """
        return self.store.read(self.to_store(samples), view=self.views(samples) if views is None else views)

    def read_features(self, name: str, samples: ArrayLike, *, views: ArrayLike | None = None) -> Tensor:
        """One feature, float32 [B, ...]; else as `read`."""
        view = self.views(samples) if views is None else views
        return self.store.read_features(name, self.to_store(samples), view=view)

    def to_store(self, samples: ArrayLike) -> StoreIndex:
        """Where B samples of the data set stand in the store. Raises StoreMismatch as `read`."""
        samples_B, num_samples = _as_indices(samples), self._require_indices()
        if not are_within(samples_B, num_samples):
            outside = (samples_B < 0) | (samples_B >= num_samples)
            raise StoreMismatch(
                f"{self.store.name}: is aligned to a data set of {num_samples:,} samples, which has no sample "
                f"{first_few(samples_B[outside].tolist())}. Align the keys of the very data set that is loaded."
            )
        return StoreIndex(samples_B if self._store_N is None else self._store_N.numpy()[samples_B])

    def find(self, keys: Sequence[str]) -> StoreIndex:
        """Where B samples with these keys stand in the store. Raises StoreMismatch for keys that it doesn't have."""
        store_B = self._by_key.find(keys)
        if (store_B < 0).any():
            unknown = [key for key, place in zip(keys, store_B.tolist(), strict=True) if place < 0]
            raise StoreMismatch(
                f"{self.store.name}: has no sample with the key {first_few(unknown)}. Give the keys that the teacher's "
                f"source has, or dump again."
            )
        return StoreIndex(store_B)

    def views(self, samples: ArrayLike | None = None) -> int | NDArray[np.int64]:
        """The view that this epoch shows of each of some samples; a single number where that is one of all. Warns with
        EpochNotSet where there are several and no epoch was set."""
        num_views = self.store.num_views
        if num_views == 1:
            return 0
        self._epoch.warn_unless_set(where=self.store.name, num_views=num_views)
        if self.view_order == "cycle" or samples is None:
            return self.epoch % num_views
        return self._views_of(self.epoch, SourceIndex(_as_indices(samples)))

    def _views_of(self, epoch: int, samples_B: SourceIndex) -> ViewNumbers:
        if self._require_indices() > WHOLE_SAMPLES:
            return views_of(
                samples_B, num_views=self.store.num_views, seed=self.seed, epoch=epoch, order=self.view_order
            )
        if self._shown is None or self._shown[0] != epoch:
            order, num_samples = self.view_order, self._require_indices()
            views_N = epoch_views(num_samples, num_views=self.store.num_views, seed=self.seed, epoch=epoch, order=order)
            self._shown = epoch, views_N
        return self._shown[1][samples_B]

    @cached_property
    def _by_key(self) -> KeyIndex:
        """Made in each process that needs it."""
        return KeyIndex(Keys(self.store.read_samples().keys))

    def _require_indices(self) -> int:
        if self._num_samples is None:
            raise InvalidOption(
                f"{self.store.name}: was aligned without keys, so that an index means nothing. Give align the keys of "
                f"the data set, or let items tell theirs with with_index(data set, key=...)."
            )
        return self._num_samples

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_by_key"} | {"_shown": None}


def _as_indices(samples: ArrayLike) -> NDArray[np.int64]:
    given = np.asarray(samples)
    if given.dtype == np.int64 and given.ndim == 1:  # asked as most are, where microseconds count
        return given
    if given.size and given.dtype.kind not in "iu":  # a mask, cast to numbers, would mean samples 0 and 1
        raise InvalidOption(f"{given.dtype} values are no sample indices. Ask by the indices of the data set.")
    return given.astype(np.int64, copy=False).reshape(-1)
