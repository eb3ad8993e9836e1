"""Items of a user's own data set that tell which sample they are, so that their stored labels can be found.

    an item that is a mapping     gets the field `index`; or `key`, where `with_index` was given a key
    any other item                becomes `IndexedItem(item, sample)`; the item itself stays as it is

`softlab.Collator` reads both and takes them apart again, so that a collate function sees the user's own items.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch.utils.data import Dataset, IterableDataset, Subset

from softlab.errors import InvalidOption, suggest

INDEX, KEY = "index", "key"
"""Fields of an item that tell which sample it is."""

ReadKey = str | Callable[[Any], str]
"""The field of an item that holds its key, or a function that gives it."""


class SampleIndex(int):
    """Where a sample stands in its data set."""

    num_samples: int
    """Of that data set: labels that are aligned to a longer or shorter one refuse the index."""

    view: int | None = None
    """Which view of the sample the item shows, where the data set knows."""


class IndexedItem(NamedTuple):
    """An item that is no mapping, beside what tells which sample it is."""

    item: Any
    sample: int | str
    """Its index, or its key."""


class IndexedItems(Sequence[Any]):
    """The items of a batch. Each is marked when somebody looks at it; a Collator need not, so that it costs nothing."""

    def __init__(self, own: Sequence[Any], samples: Sequence[int] | Sequence[str], *, num_samples: int) -> None:
        """`own` are those of the user's data set, `samples` their indices or keys."""
        self.own, self.samples, self.num_samples = own, samples, num_samples

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        sample = self.samples[place]
        told = sample if isinstance(sample, str) else sample_index(sample, num_samples=self.num_samples)
        return mark(self.own[place], told)


def with_index(dataset: Any, *, key: ReadKey | None = None) -> Dataset[Any]:
    """The same data set, whose items tell which sample they are: by their index, or with `key` by their key.

    An `IterableDataset` needs `key`: each worker and rank would count for itself. So does a `Subset`, which counts its
    own samples; or wrap the whole data set, and take a subset of that. Raises InvalidOption otherwise.
    """
    if isinstance(dataset, IndexedDataset) and key is None:
        return dataset
    is_iterable = isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__")
    if is_iterable and key is None:
        raise InvalidOption(
            "with_index: an iterable data set has no indices, as each worker and rank would count for itself. Give "
            "key=, the field of an item that holds its key, or a function that gives it."
        )
    if isinstance(dataset, Subset) and key is None:
        raise InvalidOption(
            "with_index: a Subset counts its own samples, not those of the data set that labels are aligned to. Take "
            "the subset of with_index(data set) instead, or give key=."
        )
    return KeyedStream(dataset, key) if is_iterable and key is not None else IndexedDataset(dataset, key)


class _Wrapper:
    """Has the attributes of the data set that it wraps, such as `classes` or `set_epoch`."""

    def __init__(self, dataset: Any, key: ReadKey | None) -> None:
        self.dataset, self._key = dataset, key

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dataset":  # asked for while an object is copied, before it has any
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)


class IndexedDataset(_Wrapper, Dataset[Any]):
    """A map-style data set whose items tell their index or key."""

    def __getitem__(self, index: int) -> Any:
        own = self.dataset[index]
        return IndexedItems([own], self._samples([own], [index]), num_samples=len(self))[0]

    def __getitems__(self, indices: Sequence[int]) -> IndexedItems:
        """torch's loaders ask for the samples of a batch at once."""
        dataset = self.dataset
        read = getattr(dataset, "__getitems__", None)
        own = [dataset[index] for index in indices] if read is None else read(indices)
        return IndexedItems(own, self._samples(own, indices), num_samples=len(self))

    @property
    def transform(self) -> Any:
        """The data set's own, for those who set it from outside, as timm's `create_loader` does."""
        return self.dataset.transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self.dataset.transform = transform

    def _samples(self, own: Sequence[Any], indices: Sequence[int]) -> Sequence[int] | Sequence[str]:
        if self._key is not None:
            return [_read_key(item, self._key) for item in own]
        return indices if min(indices, default=0) >= 0 else [each % len(self) for each in indices]


class KeyedStream(_Wrapper, IterableDataset[Any]):
    """An iterable data set whose items tell their key."""

    def __iter__(self) -> Iterator[Any]:
        assert self._key is not None, "with_index refuses an iterable without"
        for item in self.dataset:
            yield mark(item, _read_key(item, self._key))


def sample_index(index: int, *, num_samples: int, view: int | None = None) -> SampleIndex:
    """What an item tells."""
    found = SampleIndex(index)
    found.num_samples, found.view = num_samples, view
    return found


def mark(item: Any, sample: SampleIndex | str) -> Any:
    """An item that tells its index or key. Raises InvalidOption for one that tells another already."""
    field = KEY if isinstance(sample, str) else INDEX
    told: object = None
    if isinstance(item, IndexedItem | Mapping):
        told = item.sample if isinstance(item, IndexedItem) else item.get(field)
    if told is None:
        return {**item, field: sample} if isinstance(item, Mapping) else IndexedItem(item, sample)
    if type(told) is not type(sample) or told != sample:
        raise InvalidOption(
            f"with_index: the items have an {field} of their own, {told!r}. Rename that field, or wrap the data set "
            f"only once."
        )
    return item


def _read_key(item: Any, key: ReadKey) -> str:
    if callable(key):
        found = key(item)
    elif isinstance(item, Mapping) and key in item:
        found = item[key]
    else:
        known = suggest(key, item) if isinstance(item, Mapping) else f"They are of type {type(item).__name__}."
        raise InvalidOption(f"with_index: the items have no field {key!r}. {known} Give key= a function of an item.")
    if not isinstance(found, str):
        raise InvalidOption(
            f"with_index: key= gave {found!r}, of type {type(found).__name__}. Give text, as the store's keys are."
        )
    return found
