"""Data sets as users have them, and a store that tells by its labels which sample and view each is of."""

# Shape letters: C channels, H height, W width.

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from softlab.labels.soft_labels import SoftLabels
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import dump_teacher
from tests.loading.seen import NUM_PIXELS, Part, nameless
from tests.sources.pictures import image_of
from tests.teacher.dumping import make_options

COUNT = 20
WHOLE = nameless(COUNT)
BACKWARDS = Part(whole=WHOLE, numbers=tuple(range(COUNT))[::-1])
"""The order that a user has them in, which is not the store's."""


class Pair(NamedTuple):
    x: Tensor
    y: int


class OwnData(Dataset[Any]):
    """Sample i is picture i as a user reads it, in one of the forms that items have."""

    def __init__(self, form: str = "tuple", source: Source = WHOLE) -> None:
        self.form, self.source = form, source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        x = image_of(self.source, range(len(self))[index])
        match self.form:
            case "tuple":
                return x, index
            case "named":
                return Pair(x, index)
            case "tensor":
                return x
            case _:
                return {"x": x, "y": index, "path": self.source.keys[index]}


class OwnStream(IterableDataset[Any]):
    """The same samples as they come, in another order in each worker."""

    def __init__(self, form: str = "dict") -> None:
        self.data = OwnData(form)

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return (self.data[index] for index in range(len(self.data) - 1 - start, -1, -step))


def dump_plain(out: Path, source: Source = WHOLE, **options: Any) -> Store:
    """A store of samples as they are: each label holds every pixel, and so does the feature `pixels`."""
    values: dict[str, Any] = {"k": NUM_PIXELS, "coding": "float32", "feature": {"pixels": "flatten"}}
    teacher = nn.Sequential(OrderedDict(flatten=nn.Flatten()))
    dump_teacher(teacher, source, out, make_options(**(values | options)))
    return open_store(out, cache=CacheOptions(dir=out.with_suffix(".cache")))


def are_of(labels: SoftLabels, store: Store, samples: object, *, view: object = 0) -> bool:
    """Whether these are the labels of these samples of the store, to the bit."""
    expected = store.read(np.asarray(samples), view=np.asarray(view))
    return all(ours.equal(theirs) for ours, theirs in zip(labels.tensors(), expected.tensors(), strict=True))
