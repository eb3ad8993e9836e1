"""Data sets that torchvision knows by name. Nothing is downloaded unless the arguments say `download = true`."""

# Shape letters: N samples, C channels (1 grey, 3 RGB), H height, W width.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import datasets

from softlab.errors import InvalidOption, SourceError, suggest
from softlab.identity import content_hash
from softlab.keys import Keys
from softlab.modalities.images.decode import image_to_tensor
from softlab.sources.options import SourceOptions
from softlab.sources.source import Sample, SkippedSample, source_in_a_line, unreadable

# Where torchvision's image classification sets keep their labels; there is no common attribute.
TARGET_ATTRIBUTES = ("targets", "labels", "_labels", "y")
PAIR_ATTRIBUTES = ("_samples", "_flat_character_images")
"""Where others keep pairs of an image and its label: GTSRB, StanfordCars, FER2013, Imagenette, Omniglot."""


def open_named(name: str, options: SourceOptions) -> "TorchvisionSource":
    """The set that comes behind `torchvision:` in a path. Raises as `open_torchvision`."""
    return open_torchvision(name, root=options.root, arguments=options.arguments)


def open_torchvision(name: str, *, root: Path | None, arguments: Mapping[str, object]) -> "TorchvisionSource":
    """Raises InvalidOption for an unknown name or wrong arguments, SourceError if the data aren't there."""
    dataset = _build(name, root=root, arguments=arguments)
    num_samples = len(dataset)
    width = len(str(max(num_samples - 1, 0)))
    class_names = getattr(dataset, "classes", None)
    return TorchvisionSource(
        name=f"torchvision:{name}",
        dataset=dataset,
        keys=Keys(f"{number:0{width}}" for number in range(num_samples)),
        targets=_targets(dataset, num_samples),
        class_names=None if class_names is None else tuple(_class_name(each) for each in class_names),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TorchvisionSource:
    """Keys are zero-padded numbers. The field `image` holds pixels, uint8 [C, H, W], and the content hash is of their
    shape and bytes, because the files are the set's own."""

    name: str
    dataset: Any
    keys: Sequence[str]
    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...] | None
    skipped: tuple[SkippedSample, ...] = ()
    field_names: tuple[str, ...] = ("image",)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return source_in_a_line(self)

    def read(self, index: int) -> Sample:
        pixels_CHW = self._image(index).numpy()
        return Sample(
            index=index,
            key=self.keys[index],
            fields={"image": pixels_CHW},
            content_hash=content_hash(_pixel_bytes(pixels_CHW)),
            place=self.name,
        )

    def _image(self, index: int) -> Tensor:
        try:
            image = self.dataset[index][0]
            if isinstance(image, Image.Image):
                return image_to_tensor(image)
        except Exception as error:  # each set reads its files in its own way
            raise unreadable(error, key=self.keys[index], place=self.name) from error
        raise SourceError(
            f"{self.name}: sample {index} is a {type(image).__name__}, not an image. Choose a set of images and labels."
        )


def _build(name: str, *, root: Path | None, arguments: Mapping[str, object]) -> Any:
    if name not in datasets.__all__:
        raise InvalidOption(f"torchvision has no data set {name!r}. {suggest(name, sorted(datasets.__all__))}")
    placed = {} if root is None else {"root": str(root)}
    try:
        return getattr(datasets, name)(**placed, **arguments)
    except (TypeError, ValueError) as error:
        raise InvalidOption(
            f"torchvision:{name}: {str(error).rstrip('.')}. "
            f"Correct `source.root` and `source.arguments`, the data set's own arguments."
        ) from error
    except (RuntimeError, OSError, ImportError) as error:
        raise SourceError(
            f"torchvision:{name}: {str(error).rstrip('.')}. Point `source.root` at the data set's folder; "
            f"where it may be downloaded, say `source.arguments.download = true`."
        ) from error


def _targets(dataset: Any, num_samples: int) -> dict[str, NDArray[np.int64]]:
    for attribute in TARGET_ATTRIBUTES:
        values = np.asarray(getattr(dataset, attribute, None))
        if values.shape == (num_samples,) and values.dtype.kind in "iu":
            return {"label": values.astype(np.int64)}
    for attribute in PAIR_ATTRIBUTES:
        labels = _second_of_pairs(getattr(dataset, attribute, None), num_samples)
        if labels is not None:
            return {"label": labels}
    return {}


def _second_of_pairs(pairs: Any, num_samples: int) -> NDArray[np.int64] | None:
    """The labels of pairs of an image and its label, None where these aren't such pairs, or a test set withholds them;
    torchvision's hooks for own labels would not be applied to them."""
    if not isinstance(pairs, list) or len(pairs) != num_samples:
        return None
    labels = [pair[1] if isinstance(pair, tuple | list) and len(pair) == 2 else None for pair in pairs]
    if not all(isinstance(label, int | np.integer) for label in labels):
        return None
    return np.asarray(labels, dtype=np.int64)


def _class_name(name: str | Sequence[str]) -> str:
    """ImageNet gives each class all its synonyms, of which the first alone is not unique."""
    return name if isinstance(name, str) else ", ".join(name)


def _pixel_bytes(pixels_CHW: NDArray[np.uint8]) -> bytes:
    shape = "x".join(str(size) for size in pixels_CHW.shape)
    return shape.encode() + b":" + pixels_CHW.tobytes()
