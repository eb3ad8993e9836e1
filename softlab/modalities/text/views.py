"""Views of texts: words are left out or masked, before any tokenizer cuts a text up. There are none by default: a text
without a word may mean something else."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from softlab.errors import check_option
from softlab.manifest import MixingRecord, TransformRecord
from softlab.modalities.views import ArgumentChecks, check_seed, draw, number_in

DROP, MASK = "DropWords", "MaskWords"
"""Names of the transforms in a manifest."""

MAX_MASK_LETTERS = 64

ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Letters that are words, as Chinese and Japanese are written without spaces."""

WORD = re.compile(rf"([{ALONE}]|[^\s{ALONE}]+)(\s*)")
"""And the white space behind it."""

Words = list[tuple[str, str]]
"""Each with the white space behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextViews:
    """How texts are augmented: words are left out or masked, before any model's tokenizer sees them.

        augment = softlab.TextViews(drop=0.1)

    View v of sample n is a pure function of it, v and n, so a teacher and all its students see the same words.
    """

    modality: ClassVar[str] = "text"

    drop: float = 0.0
    """Probability that a word is left out; at least one stays. What is left may mean something else, as without a
    "not"."""

    mask: float = 0.0
    """Probability that a word that is left is replaced by `augment.mask_word`."""

    mask_word: str = "[MASK]"
    """What stands for a masked word: the mask token of the teacher's tokenizer, where it has one. A student's own
    tokenizer cuts it into pieces as any word, where it doesn't know it."""

    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        check_option(0 <= self.drop < 1, "augment.drop", self.drop, "0 to below 1")
        check_option(0 <= self.mask < 1, "augment.mask", self.mask, "0 to below 1")
        letters = f"1 to {MAX_MASK_LETTERS} letters without white space"
        found = repr(self.mask_word[:MAX_MASK_LETTERS])
        check_option(_is_word(self.mask_word), "augment.mask_word", found, letters)
        check_seed(self.seed)

    @property
    def is_random(self) -> bool:
        """Whether views differ at all."""
        return self.drop > 0 or self.mask > 0

    def parse(self) -> tuple[TransformRecord, ...]:
        """The transforms with all of their arguments."""
        dropping = TransformRecord(name=DROP, arguments={"p": self.drop})
        masking = TransformRecord(name=MASK, arguments={"p": self.mask, "word": self.mask_word})
        return (dropping,) * (self.drop > 0) + (masking,) * (self.mask > 0)

    def parse_mixing(self) -> MixingRecord | None:
        """Texts aren't mixed."""
        return None


def change_texts(
    fields: Mapping[str, Any], transforms: tuple[TransformRecord, ...], seed: int, view: int, recipe_index: int
) -> Mapping[str, Any]:
    """All texts, also those of a list; numbers stay."""
    key = draw(seed, view, recipe_index, purpose=b"words").to_bytes(16, "little")
    changed = partial(_changed, transforms=transforms, key=key)
    return {
        name: changed(found)
        if isinstance(found, str)
        else tuple(map(changed, found))
        if isinstance(found, tuple)
        else found
        for name, found in fields.items()
    }


def _changed(text: str, *, transforms: tuple[TransformRecord, ...], key: bytes) -> str:
    """What is drawn depends on the text too: a field is changed alike under any name, and those of a pair are changed
    each in its own way."""
    number = int.from_bytes(blake2b(text.encode(), digest_size=16, key=key).digest(), "little")
    random = np.random.RandomState(np.random.Philox(key=number))  # whose streams numpy has promised never to change
    words: Words = WORD.findall(text)
    for record in transforms:
        words = CHANGES[record.name](words, random.random_sample(len(words)), record.arguments)
    before = text[: len(text) - len(text.lstrip())]
    return before + "".join(map("".join, words))


def _drop(words: Words, drawn_W: NDArray[np.float64], arguments: Mapping[str, Any]) -> Words:
    stays_W = drawn_W >= arguments["p"]
    stays_W[drawn_W.argmax()] = True
    return [word for word, stays in zip(words, stays_W.tolist(), strict=True) if stays]


def _mask(words: Words, drawn_W: NDArray[np.float64], arguments: Mapping[str, Any]) -> Words:
    masked_W = drawn_W < arguments["p"]
    return [
        (arguments["word"] if is_masked else word, space)
        for (word, space), is_masked in zip(words, masked_W.tolist(), strict=True)
    ]


CHANGES: Mapping[str, Callable[[Words, NDArray[np.float64], Mapping[str, Any]], Words]] = MappingProxyType(
    {DROP: _drop, MASK: _mask}
)


def _is_word(text: object) -> bool:
    return isinstance(text, str) and 1 <= len(text) <= MAX_MASK_LETTERS and not re.search(r"\s", text)


ARGUMENTS: Mapping[str, ArgumentChecks] = MappingProxyType(
    {DROP: {"p": number_in(0, 1)}, MASK: {"p": number_in(0, 1), "word": _is_word}}
)
