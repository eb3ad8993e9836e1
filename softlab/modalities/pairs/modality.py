"""Pairs of an image and a text as a modality: what both are is said by their own modalities."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

from blake3 import blake3

from softlab.errors import InvalidOption, suggest
from softlab.indices import RecipeIndex
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.images.modality import MODALITY as IMAGES
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.modality import LOOKED_AT, OpenDataSet
from softlab.modalities.pairs.inputs import PairInput
from softlab.modalities.pairs.pair import IMAGE, TEXTS, Pair, decode_pair
from softlab.modalities.pairs.views import PairReplay, PairViews
from softlab.modalities.text.modality import MODALITY as TEXT
from softlab.modalities.views import tensor_digest
from softlab.sources.source import Raw


class Pairs:
    """An example is a `Pair`."""

    name: ClassVar[str] = "pairs"
    field: ClassVar[str] = IMAGE
    libraries: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys((*IMAGES.libraries, *TEXT.libraries)))
    input_options: ClassVar[type[PairInput]] = PairInput
    view_options: ClassVar[type[PairViews]] = PairViews
    data_sets: ClassVar[Mapping[str, OpenDataSet]] = MappingProxyType({})

    def pick(self, fields: Mapping[str, Raw], *, where: str) -> Mapping[str, Raw]:
        """Both halves. Raises InvalidOption for one that isn't there."""
        for name in (IMAGE, TEXTS):
            if name not in fields:
                raise InvalidOption(
                    f"{where}: has no field {name!r} (it has {', '.join(fields)}). {suggest(name, fields)} A pair has "
                    f"both: name their columns as `source.fields.{IMAGE}` and `source.fields.{TEXTS}`."
                )
        return {name: fields[name] for name in (IMAGE, TEXTS)}

    def decode(self, raw: Any) -> Pair:
        return decode_pair(raw)

    def samples_to_settle(self, options: PairInput) -> int:
        """As many as its tokenizer needs."""
        return TEXT.samples_to_settle(options.text)

    def settle_input(self, options: PairInput, raws: Iterable[Mapping[str, Raw]]) -> tuple[PairInput, str]:
        """With the tokenizer that is meant, and with channels where images differ in them."""
        seen = _SomeImages()
        texts = seen.texts_beside(raws)
        text, of_texts = TEXT.settle_input(options.text, texts)
        deque(texts, maxlen=0)  # the images beside texts that it had no need of
        image, of_images = IMAGES.settle_input(options.image, seen.images)
        return options.with_parts(image, text), "; ".join(filter(None, (of_images, of_texts)))

    def as_settled(self, options: PairInput, record: InputRecord) -> PairInput:
        channels = record.options.get("channels") if options.channels is None else options.channels
        settled = replace(options.image, channels=channels)
        return options.with_parts(settled, TEXT.as_settled(options.text, record))

    def fitted(self, options: PairInput, model: str) -> PairInput:
        """With the tokenizer that lies beside a model of Hugging Face's."""
        return options.with_parts(options.image, TEXT.fitted(options.text, model))

    def model_arguments(self, options: PairInput) -> dict[str, Any]:
        """What a model that is built for this input may want to know."""
        return TEXT.model_arguments(options.text)

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> PairReplay:
        return PairReplay(record, num_samples=num_samples, recipe_N=recipe_N)

    def digest(self, example: Pair) -> int:
        """Of the image and the caption that a view has."""
        text = example.text.encode()
        return int.from_bytes(blake3(tensor_digest(example.image).to_bytes(8, "little") + text).digest(8), "little")

    def collate(self, examples: Sequence[Pair], options: PairInput) -> Collated:
        """`image` [B, C, H, W], `input_ids` and `attention_mask` [B, L]."""
        (images_BCHW,) = IMAGES.collate([each.image for each in examples], options.image).inputs.positional
        texts = TEXT.collate([{"": each.text} for each in examples], options.text)
        inputs = Inputs(named={IMAGE: images_BCHW, **texts.inputs.named})
        return Collated(inputs=inputs, cut_off=texts.cut_off, tokens=texts.tokens)


MODALITY = Pairs()


class _SomeImages:
    """Images from all over many pairs, of which no more than some are in memory."""

    def __init__(self) -> None:
        self.images: list[Raw] = []
        self._stride = 1

    def texts_beside(self, raws: Iterable[Mapping[str, Raw]]) -> Iterator[Mapping[str, Raw]]:
        """All captions one by one."""
        for number, raw in enumerate(raws):
            if number % self._stride == 0:
                self.images.append(raw[IMAGE])
            if len(self.images) > 2 * LOOKED_AT:
                self.images, self._stride = self.images[::2], 2 * self._stride
            texts = raw[TEXTS]
            for text in texts if isinstance(texts, tuple) else (texts,):
                yield {"": text}
