"""A store whose soft labels are over other classes than its teacher's: those of the students."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, StoreMismatch
from softlab.identity import label_space_fingerprint
from softlab.labels.class_map import ClassesOptions, ClassMap, check_all_known, find_class_map
from softlab.labels.origin import Origin
from softlab.manifest import ClassesRecord, LabelSpaceRecord, SelectionRecord
from softlab.store.reader import Store

if TYPE_CHECKING:
    from torch import Tensor

    from softlab.labels.coding import LabelCoding
    from softlab.labels.sampled_coding import SampledCoding
    from softlab.labels.soft_labels import SoftLabels


class MappedStore(Store):
    """Another store, read at one temperature: its labels as `map_labels` gives them there."""

    def __init__(self, whole: Store, classes: ClassMap, *, temperature: float | None = None) -> None:
        """By default at temperature 1, or at the lowest stored one above it. Raises StoreMismatch for labels that can't
        be mapped."""
        super().__init__(**whole.__getstate__())  # type: ignore[arg-type]
        _check_can_be_mapped(whole, classes)
        self.whole, self.classes = whole, classes
        self.temperature = max(1.0, whole.temperatures[0]) if temperature is None else temperature

    @property
    def labels(self) -> ClassesRecord:
        """Over the students' classes, all of which are there."""
        whole, num_classes = super().labels, self.classes.num_classes
        space = LabelSpaceRecord(
            num_classes=num_classes,
            class_names=self.classes.names,
            fingerprint=label_space_fingerprint(num_classes, self.classes.names),
        )
        selection = SelectionRecord(k=num_classes, temperatures=whole.selection.temperatures)
        return msgspec.structs.replace(whole, label_space=space, selection=selection)

    @property
    def coding(self) -> "LabelCoding | SampledCoding":
        return self.whole.coding

    @property
    def origin(self) -> Origin:
        return self.whole.origin

    @property
    def is_exact(self) -> bool:
        """Whether its labels are right at any temperature."""
        return self.whole.k == self.whole.num_classes and not self.classes.merges

    def at(self, temperature: float) -> "MappedStore":
        """The same, read at another temperature."""
        return (
            self if temperature == self.temperature else MappedStore(self.whole, self.classes, temperature=temperature)
        )

    def unpack(self, rows: "Tensor", *, counts_B: NDArray[np.int64] | None = None) -> "SoftLabels":
        from softlab.labels.mapped_labels import map_labels  # as the store itself imports torch

        return map_labels(self.whole.unpack(rows, counts_B=counts_B), self.classes, temperature=self.temperature)

    def __getstate__(self) -> dict[str, object]:
        return {"whole": self.whole, "classes": self.classes, "temperature": self.temperature}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def map_stores(stores: Sequence[Store], options: ClassesOptions) -> list[Store]:
    """The stores over the students' classes; as they are where the options name none, or a store holds no labels.

    Raises StoreMismatch and InvalidOption as `find_class_map`, `check_all_known` and `MappedStore`.
    """
    if not options:
        return list(stores)
    check_all_known(options, [store.class_names for store in stores])
    return [map_store(store, options) for store in stores]


def map_store(store: Store, options: ClassesOptions) -> Store:
    """The same of one store, which may lack names that another one has."""
    if not options or not store.has_labels:
        return store
    classes = find_class_map(options, names=store.class_names, num_classes=store.num_classes, where=store.name)
    return MappedStore(store, classes)


def at_temperature(store: Store, temperature: float) -> Store:
    """A mapped store as it is read there; any other store is right everywhere."""
    return store.at(temperature) if isinstance(store, MappedStore) else store


def whole_of(store: Store) -> Store:
    """What is stored, over the teacher's own classes."""
    return store.whole if isinstance(store, MappedStore) else store


def _check_can_be_mapped(store: Store, classes: ClassMap) -> None:
    if store.labels.is_sampled:
        raise StoreMismatch(
            f"{store.name}: its rows are samples of their distributions, which aren't mapped to other classes. Leave "
            f"`classes` out, or dump with `dump.selection = topk`."
        )
    if store.labels.valid:
        raise StoreMismatch(
            f"{store.name}: has rows with fewer classes than others, which aren't mapped to other classes. Leave "
            f"`classes` out."
        )
    if store.head == "sigmoid" and classes.merges:
        raise InvalidOption(
            f"{store.name}: is of a teacher with a sigmoid head, each class a choice of its own, so that several have "
            f"no probability as one. Leave `classes.merged` out, or give it one class for each."
        )
