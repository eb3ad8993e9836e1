"""A collate function for torch's loaders that adds what a store holds about the samples of each batch.

a batch that is a mapping         gets `soft_labels`, `index` (or `key`), and `features` where some are asked for
a tuple or a list                 gets the soft labels as its last item, and behind them the features if asked for
any other batch, a named tuple    becomes a tuple: the batch, the soft labels, and the features if asked for
"""

# Shape letters: B samples in a batch.

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from softlab.errors import InvalidOption, StoreMismatch
from softlab.indices import StoreIndex
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.decoded_labels import DecodedLabels
from softlab.loading.told_targets import ToldTargets
from softlab.loading.with_index import INDEX, KEY, IndexedItem, IndexedItems, SampleIndex

SOFT_LABELS, FEATURES = "soft_labels", "features"

Collate = Callable[[list[Any]], Any]


class Collator:
    """Collates the items of `softlab.with_index` or `softlab.ViewDataset`, and adds their stored labels: one read a
    batch, in whichever process collates it. The first batches' hard targets are compared with the teacher's classes."""

    def __init__(
        self, labels: DatasetLabels, *, collate: Collate = default_collate, features: Sequence[str] = ()
    ) -> None:
        """`collate` gets the items of the data set as they are, without their index; `features` names those of the
        store that are wanted too. Of a store without soft labels the features are added alone. Raises InvalidOption for
        an unknown feature, and where there is nothing to add."""
        self.labels, self.collate, self.features = labels, collate, tuple(features)
        self._told, self._decoded = ToldTargets(labels.store), DecodedLabels(labels.store)
        for name in self.features:
            labels.store.row_bytes(name)  # raises for an unknown one
        if not labels.store.has_labels and not self.features:
            raise InvalidOption(
                f"{labels.store.name}: holds no soft labels, only values. Name those that are wanted: "
                f"Collator(labels, features={list(labels.store.feature_names)})."
            )

    def __call__(self, items: Sequence[Any]) -> Any:
        """Raises StoreMismatch for items that don't tell which sample they are, or that are of another data set than
        the labels were aligned to. Warns with OddLabels where hard targets in the batches contradict the teacher."""
        told = _take_apart(items)
        batch, added = self.collate(told.own), self._stored(told)
        if not self._told.is_done and SOFT_LABELS in added:
            self._told.add(batch, added[SOFT_LABELS])
        if isinstance(batch, Mapping):
            mark = {KEY: told.samples} if told.by_key else {INDEX: torch.from_numpy(told.samples)}
            return _joined(batch, mark | added)
        if type(batch) in (tuple, list):
            return type(batch)((*batch, *added.values()))
        return (batch, *added.values())

    def _stored(self, told: "_Told") -> dict[str, Any]:
        store_B, view = self._locate(told)
        store, found = self.labels.store, dict[str, Any]()
        if store.has_labels:
            found[SOFT_LABELS] = self._decoded.read(store_B, view=view)
        if self.features:
            found[FEATURES] = {name: store.read_features(name, store_B, view=view) for name in self.features}
        return found

    def _locate(self, told: "_Told") -> tuple[StoreIndex, int | NDArray[np.int64]]:
        """Where the samples stand in the store, and which views of them are shown."""
        if told.by_key:
            return self.labels.find(told.samples), self.labels.views()
        expected = len(self.labels)
        for length in told.lengths - {expected}:
            raise StoreMismatch(
                f"{self.labels.store.name}: is aligned to {expected:,} samples, but the items are of a data set of "
                f"{length:,}, such as sample {told.samples[0]}. Align the keys of the very data set that is given to "
                f"with_index; of data sets that are joined, wrap the joined one."
            )
        store_B = self.labels.to_store(told.samples)
        return store_B, self.labels.views(told.samples) if told.views is None else np.array(told.views)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Told:
    """What the items of a batch tell."""

    own: list[Any]
    """The items as the user's data set has them."""

    samples: Any
    """Keys, or indices as an array [B]."""

    lengths: frozenset[int] = frozenset()
    """Of the data sets that the indices count, where they are known."""

    views: list[int] | None = None
    """Which view each item shows, where the data set tells."""

    @property
    def by_key(self) -> bool:
        return not isinstance(self.samples, np.ndarray)


def _take_apart(items: Sequence[Any]) -> _Told:
    if isinstance(items, IndexedItems):
        items[0]  # raises where they tell an index of their own
        return _told(list(items.own), items.samples, lengths=frozenset([items.num_samples]))
    if all(isinstance(item, IndexedItem) for item in items):
        return _told([item.item for item in items], [item.sample for item in items])
    for mark in (INDEX, KEY):
        if all(isinstance(item, Mapping) and mark in item for item in items):
            own = [{name: value for name, value in item.items() if name != mark} for item in items]
            return _told(own, [item[mark] for item in items])
    if isinstance(items, Mapping | IndexedItem):
        raise InvalidOption("Collator: this is one item, not those of a batch. Give the loader a batch_size.")
    found = items[0]
    shown = f"the fields {', '.join(map(str, found))}" if isinstance(found, Mapping) else f"type {type(found).__name__}"
    raise StoreMismatch(
        f"Collator: the items (of {shown}) don't tell which samples they are, so that no label can be found. Load "
        f"softlab.with_index(data set), and let nothing in between drop its {INDEX!r}."
    )


def _told(own: list[Any], samples: Sequence[Any], *, lengths: frozenset[int] = frozenset()) -> _Told:
    if isinstance(samples[0], str):
        return _Told(own=own, samples=list(samples))
    known = [sample for sample in samples if isinstance(sample, SampleIndex)]
    are_views = len(known) == len(samples) and known[0].view is not None
    return _Told(
        own=own,
        samples=np.array(samples),
        lengths=lengths | {sample.num_samples for sample in known},
        views=[sample.view for sample in known if sample.view is not None] if are_views else None,
    )


def _joined(batch: Mapping[str, Any], added: Mapping[str, Any]) -> Mapping[str, Any]:
    """In the batch itself where it can be changed: a collate function may give a class of its own."""
    if not isinstance(batch, MutableMapping):
        return {**batch, **added}
    batch.update(added)
    return batch
