"""Names of layers with a number left open: `blocks.{i}.norm` fits that layer of every block, and all that is in it."""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from softlab.errors import InvalidOption, suggest

NUMBER = "{i}"

_PATTERN = re.compile(r"([^.{}*\s]|\{i\})+(\.([^.{}*\s]|\{i\})+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How a pattern fits the name of a layer, parameter or buffer."""

    layer: str
    """The part of the name that the pattern spells, e.g. blocks.3."""

    number: int | None
    """What {i} stands for; None where the pattern has none."""

    below: str
    """The rest of the name with its dot, e.g. .norm.weight; empty for the layer itself."""


def check_pattern(pattern: str, *, option: str) -> None:
    """Raises InvalidOption unless it is a dotted name with at most one `{i}`. `option` is where it was given."""
    if not _PATTERN.fullmatch(pattern) or pattern.count(NUMBER) > 1:
        raise InvalidOption(
            f"{option}: {pattern!r} isn't the name of a layer. Write one like layer4.1 or blocks.{NUMBER}, where "
            f"{NUMBER}, once at most, is any number; what is in the layer goes along."
        )


def fit(pattern: str, name: str) -> Fit | None:
    """How the pattern fits the name, None if it doesn't."""
    match = _expression(pattern).match(name)
    if match is None:
        return None
    number = int(match["number"]) if NUMBER in pattern else None
    return Fit(layer=match[0], number=number, below=name[match.end() :])


def with_number(pattern: str, number: int) -> str:
    """The one layer that a pattern names where `{i}` is this number."""
    return pattern.replace(NUMBER, str(number))


def suggest_pattern(pattern: str, names: Iterable[str]) -> str:
    """The end of a message about a pattern that fits none of the names: the nearest that would."""
    layers = dict.fromkeys(layer for name in names for layer in _with_parents(name))
    if NUMBER in pattern:
        layers = dict.fromkeys(_numbers_open(layer) for layer in layers)
    return suggest(pattern, layers)


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    before, _, after = pattern.partition(NUMBER)
    number = "(?P<number>0|[1-9][0-9]*)" if NUMBER in pattern else ""
    return re.compile(rf"{re.escape(before)}{number}{re.escape(after)}(?=\.|$)")


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _numbers_open(layer: str) -> str:
    """blocks.{i}.norm1 for blocks.3.norm1: only the first part that is nothing but a number."""
    return re.sub(r"(?<=\.)[0-9]+(?=\.|$)", NUMBER, layer, count=1)
