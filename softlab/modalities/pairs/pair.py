"""An image and its captions."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from softlab.modalities.images.decode import AS_TODAY, decode_image
from softlab.modalities.text.modality import MODALITY as TEXT
from softlab.sources.source import Raw

IMAGE, TEXTS = "image", "text"
"""The fields of a sample, and the halves of a pair."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One sample, or a view of it."""

    image: Tensor
    """uint8 [C, H, W]."""

    captions: tuple[str, ...]
    """One or more."""

    chosen: int = 0
    """Which caption the view has."""

    @property
    def text(self) -> str:
        return self.captions[self.chosen]


def decode_pair(fields: Mapping[str, Raw]) -> Pair:
    """Raises ValueError or TypeError for a pair of which a half is missing or can't be decoded, and names the half."""
    try:
        image = decode_image(fields[IMAGE], AS_TODAY)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its field {IMAGE!r}: {error}") from error
    raw = fields[TEXTS]
    texts = raw if isinstance(raw, tuple) else (raw,)
    try:
        captions = tuple(str(TEXT.decode(text)[""]) for text in texts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its field {TEXTS!r}: {error}") from error
    if not captions:
        raise ValueError(f"its field {TEXTS!r}: it holds no caption")
    return Pair(image, captions)
