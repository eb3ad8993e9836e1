"""Which rows are worth learning: a rule about what a teacher said of each, such as `max_prob >= 0.9 and agree`.

    rule    = part {"or" part}          part = one {"and" one}          one = ["not"] one | "(" rule ")" | test
    test    = "agree" | "correct" | "labelled" | figure ("<" | "<=" | ">" | ">=") number
    figure  = "max_prob" | "margin" | "entropy" | "quantile" "(" figure ")"

The quantile of a figure is the share of the rows with the same largest class whose figure is at most the row's own: by
it an equal share of every class is kept. A rule is read by this grammar alone and never run as code.
"""

# Shape letters: N rows.

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, suggest

FIGURES = ("max_prob", "margin", "entropy")
"""Of the probabilities at temperature 1: the largest one, how far it is from the second, and their entropy in nats."""

FACTS = ("agree", "correct", "labelled")
"""Whether all teachers have the same largest class, it is the hard target, and there is a hard target."""

QUANTILE = "quantile"

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(r"\s*(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[A-Za-z_]\w*|<=|>=|[<>()])")
"""A number, a word, or a sign."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowFigures:
    """What a rule may ask of N rows; of facts and figures, those that it names."""

    numbers: Mapping[str, NDArray[np.float64]]
    facts: Mapping[str, NDArray[np.bool_]]
    classes_N: NDArray[np.int64]
    """The largest class of each row."""


class _Test(Protocol):
    def __call__(self, rows: RowFigures, /) -> NDArray[np.bool_]: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeepRule:
    """A rule that has been read."""

    text: str
    names: frozenset[str]
    """The facts and figures that it asks for."""

    test: _Test

    @property
    def figures(self) -> tuple[str, ...]:
        return tuple(name for name in FIGURES if name in self.names)

    def keeps(self, rows: RowFigures) -> NDArray[np.bool_]:
        """bool [N]."""
        return self.test(rows)


def read_rule(text: str) -> KeepRule:
    """Raises InvalidOption for a text that is no rule."""
    reader = _Reader(text)
    test = reader.any_of()
    if reader.next is not None:
        raise reader.wrong("and, or, or the end")
    return KeepRule(text=text, names=frozenset(reader.names), test=test)


def quantiles(values_N: NDArray[np.float64], classes_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each value among those of its class: above 0, and 1 for the largest."""
    found_N = np.empty(len(values_N))
    order = np.argsort(classes_N, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(classes_N[order])) + 1):
        found_N[rows] = np.searchsorted(np.sort(values_N[rows]), values_N[rows], side="right") / max(len(rows), 1)
    return found_N


class _Reader:
    """Goes through a rule from left to right, one method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, _split(text)
        self._at = 0
        self.names: set[str] = set()

    @property
    def next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def any_of(self) -> _Test:
        tests = [self.all_of()]
        while self._take("or"):
            tests.append(self.all_of())
        return tests[0] if len(tests) == 1 else lambda rows: np.any([test(rows) for test in tests], axis=0)

    def all_of(self) -> _Test:
        tests = [self.one()]
        while self._take("and"):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda rows: np.all([test(rows) for test in tests], axis=0)

    def one(self) -> _Test:
        if self._take("not"):
            denied = self.one()
            return lambda rows: ~denied(rows)
        if self._take("("):
            inner = self.any_of()
            self._expect(")")
            return inner
        if self.next in FACTS:
            name = self._word()
            return lambda rows: rows.facts[name]
        return self._comparison()

    def _comparison(self) -> _Test:
        is_quantile = self._take(QUANTILE)
        if is_quantile:
            self._expect("(")
        if self.next not in FIGURES:
            raise self.wrong(f"{', '.join(FIGURES)}" if is_quantile else f"{', '.join((*FACTS, *FIGURES, QUANTILE))}")
        name = self._word()
        if is_quantile:
            self._expect(")")
        if self.next not in _COMPARE:
            raise self.wrong("<, <=, > or >=")
        compare, number = _COMPARE[self._word()], self._number()

        def test(rows: RowFigures) -> NDArray[np.bool_]:
            values_N = rows.numbers[name]
            found: NDArray[np.bool_] = compare(quantiles(values_N, rows.classes_N) if is_quantile else values_N, number)
            return found

        return test

    def _number(self) -> float:
        try:
            number = float(self.next or "")
        except ValueError as error:
            raise self.wrong("a number") from error
        self._at += 1
        return number

    def _word(self) -> str:
        word = self._tokens[self._at]
        self._at += 1
        if word in (*FACTS, *FIGURES):
            self.names.add(word)
        return word

    def _take(self, token: str) -> bool:
        is_there = self.next == token
        self._at += is_there
        return is_there

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self.wrong(repr(token))

    def wrong(self, expected: str) -> InvalidOption:
        found = "ends" if self.next is None else f"has {self.next!r}"
        where = f"after {' '.join(self._tokens[: self._at])!r}" if self._at else "at its beginning"
        near = suggest(self.next, (*FACTS, *FIGURES)) if self.next and self.next.isidentifier() else ""
        hint = f" {near}" if near.startswith("Did") else ""
        return InvalidOption(
            f"distil.keep = {self._text!r}: {found} {where}, expected {expected}.{hint} Write it as "
            f"`max_prob >= 0.9`, `quantile(entropy) <= 0.8 and agree`, ..; change `distil.keep`."
        )


def _split(text: str) -> list[str]:
    tokens, at, text = [], 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidOption(
                f"distil.keep = {text!r}: {text[at:].strip()[0]!r} means nothing in it. Compare with <, <=, > or >=, "
                f"as in `max_prob >= 0.9 and agree`; change `distil.keep`."
            )
        tokens.append(match[0].strip())
        at = match.end()
    return tokens
