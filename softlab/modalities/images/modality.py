"""Images as a modality."""

# Shape letters: C channels, H height, W width.

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from msgspec import UnsetType

from softlab.indices import RecipeIndex
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.images.decode import AS_TODAY
from softlab.modalities.images.decoding import SCALED, ImageDecoding, decide
from softlab.modalities.images.example import ImageExample, decode_example, digest_example, pixels_of
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.jpeg import ScaledJpeg, check_decoder
from softlab.modalities.images.kinds import settle_input
from softlab.modalities.images.restated import LooksSame, as_settled, find_same, restated
from softlab.modalities.images.torchvision_sets import open_named
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.inputs import Collated, InputBounds, Inputs
from softlab.modalities.modality import OpenDataSet
from softlab.sources.source import Raw


@dataclass(frozen=True, slots=True)
class Images:
    """An example is an image, uint8 [C, H, W], or a JPEG of which only what is needed will be decoded."""

    decoding: ImageDecoding = AS_TODAY

    name: ClassVar[str] = "images"
    field: ClassVar[str] = "image"
    input_options: ClassVar[type[ImageInput]] = ImageInput
    view_options: ClassVar[type[ViewRecipe]] = ViewRecipe
    data_sets: ClassVar[Mapping[str, OpenDataSet]] = MappingProxyType({"torchvision": open_named})

    @property
    def libraries(self) -> tuple[str, ...]:
        decoder = (SCALED["jpeg_decoder"],) if self.decoding.jpeg == "scaled" else ()
        return ("torchvision", "numpy", "pillow", *decoder)

    def decode(self, raw: Raw) -> ImageExample:
        return decode_example(raw, self.decoding)

    def of_sample(self, example: ImageExample, *, key: str, place: str) -> ImageExample:
        return replace(example, key=key, place=place) if isinstance(example, ScaledJpeg) else example

    @property
    def kept_as(self) -> str:
        """All that decides about decoded pixels beside the bytes; empty where views decode what each of them needs."""
        if self.decoding.jpeg == "scaled" and self.decoding.shrink is None:
            return ""
        versions = {name: version(name) for name in ("torch", *self.libraries)}
        return json.dumps([asdict(self.decoding), versions], sort_keys=True)

    def check(self, example: ImageExample) -> None:
        """Raises UnreadableSample for a JPEG that can't be decoded."""
        pixels_of(example)

    @property
    def decode_record(self) -> dict[str, Any]:
        return self.decoding.record

    def for_inputs(self, inputs: Sequence[ImageInput], seen: InputRecord | None) -> "Images":
        as_recorded = None if seen is None or isinstance(seen.decode, UnsetType) else seen.decode
        wanted = [each.wanted_decoding for each in inputs]
        decoding = decide(wanted, as_recorded=as_recorded, is_of_a_store=seen is not None)
        if decoding.jpeg == "scaled":
            check_decoder()
        return Images(decoding)

    def settle_input(self, options: ImageInput, raws: Iterable[Raw]) -> tuple[ImageInput, str]:
        return settle_input(options, raws)

    def as_settled(self, options: ImageInput, record: InputRecord) -> ImageInput:
        return as_settled(options, record)

    def restated(self, record: InputRecord, options: ImageInput) -> InputRecord:
        return restated(record, options)

    def find_same(self, begun: InputRecord, now: InputRecord, *, is_random: bool) -> LooksSame | None:
        return find_same(begun, now, is_random=is_random)

    def untold_input(self, options: ImageInput) -> str:
        if options != ImageInput():
            return ""
        mean, std = (list(values) for values in (options.mean, options.std))
        return f"images have their own size, mean {mean} and std {std}; for others say `input.mean`, .."

    def input_bounds(self, options: ImageInput) -> InputBounds:
        """Black and white, as each channel is normalised."""
        mean_C11, std_C11 = (torch.tensor(values)[:, None, None] for values in (options.mean, options.std))
        return InputBounds(lowest=-mean_C11 / std_C11, highest=(1 - mean_C11) / std_C11, unit=1 / std_C11)

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> ImageReplay:
        return ImageReplay(record, num_samples=num_samples, recipe_N=recipe_N)

    def digest(self, example: ImageExample) -> int:
        return digest_example(example)

    def collate(self, examples: Sequence[ImageExample], options: ImageInput) -> Collated:
        return Collated(inputs=Inputs(positional=(make_input(examples, options),)))


MODALITY = Images()
