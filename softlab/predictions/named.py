"""Predictions that are told by the names of classes, or by tokens that name them."""

# Shape letters: N rows, C classes, K entries of a row.

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from softlab.errors import SourceError, first_few
from softlab.predictions.columns import CLASS_IDS, CLASS_NAMES, NO_CLASS, Columns, columns_of, padded
from softlab.predictions.options import PredictionOptions

MOST = 1e300
"""Larger ones are no predictions, and whole numbers that are much larger don't fit into any type."""


class NamedEntries:
    """Gathers rows of entries by name, and makes them entries by class.

    A token stands for the class whose name it is, but for blanks around it. What several tokens of one class have is
    added up. Tokens that name no class are left out, and the rest is what it is given that a class is named.
    """

    def __init__(self, class_names: Sequence[str] | None, *, where: str) -> None:
        self._where, self._names = where, class_names
        self._places = {name: place for place, name in enumerate(class_names or ())}
        self.rows: list[dict[int, float]] = []
        self._left_out: list[float] = []
        self._name: str | None = None

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def lengths(self) -> dict[str, int]:
        return {self._name: len(self.rows)} if self._name is not None else {}

    def add(self, name: str, entries: Mapping[str, Any], *, where: str) -> None:
        """One row. Raises SourceError where the names of classes aren't known, none is among the entries, or what
        isn't a log-probability has an unknown one."""
        if self._names is None:
            raise SourceError(
                f"{where}: tells classes by name ({first_few(list(entries))}), but in which order they are counted "
                f"isn't known. Give a file with their names as `class_names`."
            )
        self._name = name
        row: dict[int, float] = {}
        left_out = 0.0
        for entry, value in entries.items():
            place = self._places.get(entry, self._places.get(entry.strip()))
            if place is not None:
                number = _number(value, entry, where=where)
                row[place] = number if place not in row else _added(name, row[place], number)
            elif name == "log_probabilities":
                left_out += math.exp(min(_number(value, entry, where=where), 0.0))
            else:
                raise SourceError(f"{where}: {entry!r} is no class (they are {first_few(list(self._names))}, ..).")
        if not row:
            raise SourceError(
                f"{where}: none of {first_few(list(entries))} is the name of a class ({first_few(list(self._names))}, "
                f"..). Ask for answers that are names of classes, or leave that line out."
            )
        self.rows.append(row)
        self._left_out.append(left_out)

    def columns(self, arrays: Mapping[str, Any], options: PredictionOptions) -> Columns:
        """Counts as one column a class, all else as the entries that rows have."""
        assert self._name is not None, "rows were added"
        assert self._names is not None, "rows were added"
        kind = options.kind or self._name
        beside: dict[str, Any] = {CLASS_NAMES: tuple(self._names)}
        if kind == "votes":
            counts_NC = np.zeros((len(self.rows), len(self._names)))
            for place, row in enumerate(self.rows):
                counts_NC[place, list(row)] = list(row.values())
            return _by_name(columns_of({**arrays, **beside, self._name: counts_NC}, options, where=self._where))
        ranked = [sorted(row.items(), key=lambda entry: (-entry[1], entry[0])) for row in self.rows]
        beside[CLASS_IDS] = padded([[place for place, _ in row] for row in ranked], fill=NO_CLASS)
        numbers = padded([[value for _, value in row] for row in ranked], fill=-math.inf)
        if self._name == "log_probabilities":
            numbers = numbers - np.log1p(-np.minimum(self._left_out, 1 - 1e-9))[:, None]
        columns = columns_of({**arrays, **beside, self._name: numbers}, options, where=self._where)
        return _by_name(columns, left_out=float(np.mean(self._left_out)))


def _number(value: Any, entry: str, *, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > MOST:
        raise SourceError(f"{where}: what it says of {entry!r} is no number. Write one for each class.")
    return float(value)


def _by_name(columns: Columns, *, left_out: float = 0.0) -> Columns:
    return replace(columns, is_by_name=True, left_out=left_out)


def _added(name: str, one: float, other: float) -> float:
    return float(np.logaddexp(one, other)) if name == "log_probabilities" else one + other
