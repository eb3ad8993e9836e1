"""How a model wants its numbers and categories: which fields of a sample, and standardised by what."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, Literal

from softlab.errors import InvalidOption, check_option
from softlab.modalities.inputs import RECORDED_IF_OTHER

Layout = Literal["flat", "channels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorInput:
    """How a model wants its numbers and categories: which fields of a sample, and standardised by which statistics."""

    modality: ClassVar[str] = "vectors"

    numbers: tuple[str, ...] = ()
    """Fields that are read as numbers, each a number or a list of them, in this order.

    Default: all that hold numbers, unless `categories` are named."""

    categories: tuple[str, ...] = ()
    """Fields that are read as categories, texts or whole numbers: each is a 1 among zeros (one-hot).

    Default: all that hold texts, unless `numbers` are named."""

    layout: Layout = "flat"
    """flat: all numbers side by side, [B, D]. channels: each field is a channel of a window, [B, C, L], all of one
    length; categories are constant channels behind them."""

    standardise: bool = field(default=True, metadata={RECORDED_IF_OTHER: True})
    """Subtract the mean of the source's samples and divide by their deviation: of each number, or of each channel."""

    unseen: Literal["refuse", "zeros"] = field(default="refuse", metadata={RECORDED_IF_OTHER: True})
    """What becomes of a category that wasn't there when the input was settled: it is refused, or is all zeros."""

    sizes: tuple[int, ...] = ()
    """How many numbers each field of `numbers` has. softlab fills it in."""

    means: tuple[float, ...] = ()
    """One a number, or one a channel. softlab fills it in."""

    deviations: tuple[float, ...] = ()
    """The same of standard deviations; 1 where a number never changes. softlab fills it in."""

    known: str = field(default="", metadata={RECORDED_IF_OTHER: True})
    """The known categories of each field, in JSON. softlab fills it in."""

    def __post_init__(self) -> None:
        twice = [name for name in self.fields if self.fields.count(name) > 1]
        if twice:
            raise InvalidOption(
                f"input.numbers and input.categories: name {twice[0]!r} more than once. Leave it in one of them."
            )
        check_option(self.layout in ("flat", "channels"), "input.layout", self.layout, "flat or channels")
        check_option(self.unseen in ("refuse", "zeros"), "input.unseen", self.unseen, "refuse or zeros")
        if self.layout == "channels" and self.categories and not self.numbers:
            raise InvalidOption(
                "input.layout = channels: categories alone have no length. Name the channels as `input.numbers`."
            )
        if self.layout == "channels" and len(set(self.sizes)) > 1:
            found = ", ".join(f"{name} {size:,}" for name, size in zip(self.numbers, self.sizes, strict=False))
            raise InvalidOption(
                f"input.layout = channels: the fields have different lengths ({found}). Name those of one length as "
                f"`input.numbers`, or say `input.layout = flat`."
            )
        self._check_statistics()

    def _check_statistics(self) -> None:
        count = (len(self.numbers) if self.layout == "channels" else sum(self.sizes)) if self.standardise else 0
        are_right = len(self.sizes) in (0, len(self.numbers)) and len(self.means) == len(self.deviations)
        if not are_right or len(self.means) not in (0, count):
            raise InvalidOption(
                f"input.means and input.deviations: {len(self.means)} and {len(self.deviations)} values for {count} "
                f"numbers. Leave them out: softlab finds them in the source."
            )
        if not all(map(isfinite, self.means)) or not all(isfinite(each) and each > 0 for each in self.deviations):
            raise InvalidOption(
                "input.means and input.deviations: hold what isn't finite, or a deviation that isn't above 0. Leave "
                "them out: softlab finds them in the source."
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """All that are read; none where they are left to the source."""
        return (*self.numbers, *self.categories)

    @property
    def is_settled(self) -> bool:
        """Whether some samples have told what is left to them."""
        needs_means = self.standardise and bool(self.numbers)
        has_statistics = len(self.sizes) == len(self.numbers) and (bool(self.means) or not needs_means)
        return bool(self.fields) and has_statistics and (bool(self.known) or not self.categories)

    @property
    def levels(self) -> Mapping[str, Mapping[str, int]]:
        """Of a settled input the known categories of each field, and at which place each has its 1."""
        return _levels(self.known)

    @property
    def num_categories(self) -> int:
        """Of all fields together."""
        return sum(map(len, self.levels.values()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample as a settled input has it."""
        if self.layout == "flat":
            return (sum(self.sizes) + self.num_categories,)
        return (len(self.numbers) + self.num_categories, self.sizes[0])


@functools.cache  # each batch asks for it
def _levels(known: str) -> Mapping[str, Mapping[str, int]]:
    named: Mapping[str, list[str]] = json.loads(known) if known else {}
    return {name: {level: place for place, level in enumerate(levels)} for name, levels in named.items()}
