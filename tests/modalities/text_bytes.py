"""A modality of a user's own: text as its UTF-8 bytes, for models that count words."""

# Shape letters: B texts in a batch, L bytes of the longest one that is let in.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from softlab.indices import RecipeIndex
from softlab.manifest import ViewsRecord
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.modality import OpenDataSet
from softlab.modalities.views import AsTheyAre, NoViews, tensor_digest
from softlab.sources.source import Raw


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    modality: ClassVar[str] = __name__
    length: int = 16
    """bytes that are let in; what is shorter is filled with zeros"""


class Text:
    name = __name__
    field = "text"
    libraries: tuple[str, ...] = ()
    input_options = TextInput
    view_options = NoViews
    data_sets: ClassVar[Mapping[str, OpenDataSet]] = {}

    def decode(self, raw: Raw) -> Tensor:
        if not isinstance(raw, str):
            raise TypeError("it isn't text")
        return torch.tensor([byte + 1 for byte in raw.encode()], dtype=torch.int64)

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> AsTheyAre:
        return AsTheyAre(record, recipe_N=recipe_N)

    def digest(self, example: Tensor) -> int:
        return tensor_digest(example)

    def collate(self, examples: Sequence[Tensor], options: TextInput) -> Collated:
        ids_BL = torch.zeros(len(examples), options.length, dtype=torch.int64)
        for ids_L, example in zip(ids_BL, examples, strict=True):
            ids_L[: len(example)] = example[: options.length]
        return Collated(inputs=Inputs(named={"input": ids_BL}))


MODALITY = Text()


def bag_of_words(*, num_classes: int = 3, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(257, width, padding_idx=0), nn.Linear(width, num_classes))
