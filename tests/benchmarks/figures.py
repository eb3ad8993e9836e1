"""Ratios that a quick run compares with an earlier one: what each was, and how far it scattered."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, islice, pairwise, takewhile
from pathlib import Path
from typing import Literal, Self

from softlab.bench.timing import Ratio
from softlab.errors import InvalidOption

Better = Literal["higher", "lower"]

TITLE = "Quick figures"
HEADERS = ["what", "better", "ratio", "lowest", "highest"]
GROUPS = 9
"""Many short rounds are taken together, successive ones, so that the extremes of a figure are those of this many."""

MANY = 5
"""Rounds of which the lowest and the highest are left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One ratio of ways that took turns: the median of what it was in each round, which a shared machine disturbs less
    than a ratio of medians."""

    value: float
    lowest: float
    highest: float
    """Of its rounds but the most extreme ones: on a shared machine one round in many is far off."""

    better: Better = "higher"

    @classmethod
    def of(cls, ratio: Ratio, *, better: Better = "higher") -> Self:
        rounds = sorted(_grouped(ratio.rounds))
        inner = rounds[1:-1] if len(rounds) >= MANY else rounds
        return cls(value=statistics.median(ratio.rounds), lowest=inner[0], highest=inner[-1], better=better)

    @property
    def noise(self) -> float:
        """How many times as high its highest is as its lowest, as a logarithm."""
        return math.log(self.highest / self.lowest)

    def cells(self) -> list[str]:
        return [self.better, *(f"{number:.4g}" for number in (self.value, self.lowest, self.highest))]


def _grouped(rounds: Sequence[float]) -> list[float]:
    count = min(len(rounds), GROUPS)
    edges = [len(rounds) * number // count for number in range(count + 1)]
    return [statistics.median(rounds[start:stop]) for start, stop in pairwise(edges)]


def sizes_line(sizes: str) -> str:
    """By which figures tell what data they are of."""
    return f"Of {sizes}."


def table_of(figures: Mapping[str, Figure]) -> list[list[str]]:
    return [[what, *figure.cells()] for what, figure in figures.items()]


def read_figures(path: Path, *, sizes: str) -> dict[str, Figure]:
    """Those of a file of results. Raises InvalidOption for one without, or that isn't there, and for figures of other
    sizes of data."""
    lines = path.read_text().splitlines() if path.is_file() else []
    if f"## {TITLE}" not in lines:
        raise InvalidOption(f"{path}: has no section {TITLE!r}. Write it first: --quick --record {path}")
    section = _until_next(dropwhile(lambda line: line != f"## {TITLE}", lines))
    if sizes_line(sizes) not in section:
        raise InvalidOption(
            f"{path}: {TITLE!r} are not of {sizes}, and ratios of other sizes tell nothing. Leave the options of sizes "
            f"out, or write figures of these: --quick --record FILE"
        )
    rows = [_cells(line) for line in section if line.startswith("| ")]
    if not rows or rows[0] != HEADERS:
        raise InvalidOption(f"{path}: the table of {TITLE!r} has the columns {rows[:1]}, expected {HEADERS}.")
    return {what: _figure(path, what, cells) for what, *cells in rows[2:]}


def _until_next(lines: Iterable[str]) -> list[str]:
    """Of the section that begins with the first of them."""
    return list(takewhile(lambda line: not line.startswith("## "), islice(lines, 1, None)))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def _figure(path: Path, what: str, cells: Sequence[str]) -> Figure:
    better, *numbers = cells
    if better not in ("higher", "lower") or len(numbers) != 3:
        raise InvalidOption(f"{path}: {TITLE}: {what}: has {list(cells)}, expected {HEADERS[1:]}. Record it again.")
    value, lowest, highest = map(float, numbers)
    return Figure(value=value, lowest=lowest, highest=highest, better=better)  # type: ignore[arg-type]
