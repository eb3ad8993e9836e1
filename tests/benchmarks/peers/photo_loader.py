"""What a loader of photographs is: some library that makes batches, ready for a model, of JPEGs in class folders."""

# Shape letters: B rows in a batch, C channels or classes, H height, W width.

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALL, FEW = "crop, flip, RandAugment", "crop, flip"
SCALED = "scaled"
"""The store of the former's views, of JPEGs that were scaled while they were decoded."""

AUGMENTATIONS = {
    ALL: (f"RandomResizedCrop({SIDE})", "RandomHorizontalFlip()", "RandAugment()"),
    FEW: (f"RandomResizedCrop({SIDE})", "RandomHorizontalFlip()"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoSet:
    """The same photographs for every loader."""

    folder: Path
    """Of class folders."""

    stores: Mapping[str, Path]
    """softlab's stores of their views, by augmentation, and that of `SCALED`."""

    scratch: Path
    """Where loaders write what they need."""

    batch_size: int
    num_classes: int
    checkouts: Mapping[str, Path] = field(default_factory=dict)
    """Of repositories whose loaders come in no package, by their names."""

    def checkout(self, name: str) -> Path:
        """Raises ImportError where there is none."""
        if name not in self.checkouts:
            raise ImportError(f"no checkout: --checkout {name}=FOLDER")
        return self.checkouts[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """One batch."""

    images_BCHW: Tensor
    """float32, normalised."""

    loss: Callable[[Tensor], Tensor]
    """Of a student's logits [B, C]."""


def ignore(_: PhotoSet) -> None:
    """Of a loader that needs nothing beforehand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoLoader:
    """One line of the table."""

    name: str
    how: str
    labels: str
    augmentation: str
    load: Callable[[PhotoSet], Iterator[Loaded]]
    """Batches without end. Raises ImportError where something isn't installed."""

    prepare: Callable[[PhotoSet], None] = ignore
    """Writes what is to be read; not timed. Raises ImportError too."""

    modules: tuple[str, ...] = ()
    """Imported before anything is timed."""

    package: str | None = None
    """Whose version the table names."""


def hard(images_BCHW: Tensor, targets_B: Tensor) -> Loaded:
    return Loaded(images_BCHW=images_BCHW, loss=lambda logits_BC: cross_entropy(logits_BC, targets_B))


def endless(data: Any, *, batch_size: int, **options: Any) -> Iterator[Any]:
    """Shuffled batches of a data set, by torch's own loader, in this process."""
    return over_and_over(DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True, **options))


def over_and_over(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from batches
