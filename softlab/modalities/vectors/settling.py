"""What samples of a source decide of an input: its fields, their sizes, means and deviations, and the categories."""

# Shape letters: N rows (one a sample, of a window one for each step), D numbers of a row.

import json
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, first_few
from softlab.modalities.vectors.columns import Row, category_of, numbers_of, problem_of, with_fields
from softlab.modalities.vectors.inputs import VectorInput

MOST_CATEGORIES = 4096
"""Of one field: more are names of samples rather than categories."""

BLOCK_NUMBERS = 1 << 18
"""That are added to the statistics at once."""

ROUNDING = 1e-12
"""A deviation that is a smaller share of the mean than this comes from rounding: the number never changes."""


def settle_columns(options: VectorInput, rows: Iterable[Row]) -> tuple[VectorInput, str]:
    """The input with what these samples tell, and what is odd about them. Samples that can't be read count nothing:
    they are told of when all are read. Raises InvalidOption where none is left, and for too many categories."""
    levels: dict[str, set[str]] = {}
    moments = Moments()
    for row in rows:
        named = with_fields(options, row)
        if problem_of(row, named):
            continue
        options = _with_sizes(named, row)
        for name in options.categories:
            _add_level(levels.setdefault(name, set()), row, name)
        moments.add(numbers_of(row, options))
    if not moments.count:
        raise InvalidOption(
            "input.numbers and input.categories: none of the samples can be read so. Name the fields that hold numbers "
            "as `input.numbers`, and those that hold categories as `input.categories`."
        )
    known = json.dumps({name: sorted(found) for name, found in levels.items()}, ensure_ascii=False) if levels else ""
    options = replace(options, known=known)
    if not options.standardise or not options.numbers:
        return options, ""
    means_D, deviations_D = moments.means_and_deviations()
    is_constant_D = deviations_D <= ROUNDING * np.abs(means_D)
    deviations_D[is_constant_D] = 1.0
    settled = replace(options, means=tuple(means_D.tolist()), deviations=tuple(deviations_D.tolist()))
    return settled, _note(settled, is_constant_D)


class Moments:
    """Means and standard deviations of rows that come one by one, added up block by block (Chan, Golub, LeVeque 1983),
    so that large numbers lose nothing to small ones."""

    def __init__(self) -> None:
        self.count = 0
        self._block: list[NDArray[np.float64]] = []
        self._means_D = self._squares_D = np.zeros(0)
        self._added = 0

    def add(self, rows_ND: NDArray[np.float64]) -> None:
        self.count += len(rows_ND)
        self._block.append(rows_ND)
        if rows_ND.size * len(self._block) >= BLOCK_NUMBERS:
            self._add_block()

    def means_and_deviations(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[D] each; the deviation is that of these rows, not an estimate of a larger population's."""
        self._add_block()
        return self._means_D, np.sqrt(self._squares_D / self.count)

    def _add_block(self) -> None:
        if not self._block:
            return
        rows_ND, self._block = np.concatenate(self._block), []
        means_D = rows_ND.mean(axis=0)
        squares_D = ((rows_ND - means_D) ** 2).sum(axis=0)
        if not self._added:
            self._means_D, self._squares_D, self._added = means_D, squares_D, len(rows_ND)
            return
        total = self._added + len(rows_ND)
        change_D = means_D - self._means_D
        self._squares_D = self._squares_D + squares_D + change_D**2 * (self._added * len(rows_ND) / total)
        self._means_D = self._means_D + change_D * (len(rows_ND) / total)
        self._added = total


def _with_sizes(options: VectorInput, row: Row) -> VectorInput:
    if options.sizes or not options.numbers:
        return options
    return replace(options, sizes=tuple(int(np.size(row[name])) for name in options.numbers))


def _add_level(levels: set[str], row: Row, name: str) -> None:
    levels.add(str(category_of(row[name])))
    if len(levels) > MOST_CATEGORIES:
        raise InvalidOption(
            f"input.categories: the field {name!r} has more than {MOST_CATEGORIES:,} categories, so that it rather "
            f"names samples. Name the others as `input.categories`, and those of numbers as `input.numbers`."
        )


def _note(options: VectorInput, is_constant_D: NDArray[np.bool_]) -> str:
    """Which fields have numbers that tell nothing."""
    if not is_constant_D.any():
        return ""
    sizes = [1] * len(options.numbers) if options.layout == "channels" else options.sizes
    fields_D = np.repeat(np.array(options.numbers, dtype=object), sizes)
    names = list(dict.fromkeys(fields_D[is_constant_D].tolist()))
    return (
        f"{int(is_constant_D.sum()):,} of {len(is_constant_D):,} numbers never change (of {first_few(names)}), and are "
        f"0 for a model"
    )
