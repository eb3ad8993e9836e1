"""Are the numbers of predictions what they are said to be? Looked at before anything is written."""

# Shape letters: N rows of the predictions, C classes, K entries of a row.

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlab.amounts import format_count
from softlab.errors import InvalidOption, SourceError
from softlab.labels.soft_labels import Head
from softlab.predictions.columns import NO_CLASS, Columns
from softlab.predictions.options import Kind

SUM_TOLERANCE = 1e-2
"""By which probabilities may miss 1, as they do in half precision or rounded to a few digits."""

BLOCK_ROWS = 1 << 14
"""Looked at together, so that checks need little memory beside the predictions themselves."""

Test = Callable[[NDArray[Any]], Any]
"""Of a block of rows, bool a row: which are bad."""


class RowChecks:
    """Names rows in messages."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def refuse(self, bad_N: Any, found: str, step: str) -> None:
        """Raises SourceError naming the first rows that are bad, if some are."""
        places = np.flatnonzero(bad_N)
        if len(places):
            told = ", ".join(self.tell(int(place)) for place in places[:3])
            raise SourceError(
                f"{self._columns.where}: {format_count(len(places), 'row')} {found}, such as {told}. {step}"
            )

    def tell(self, row: int) -> str:
        keys = self._columns.keys
        return f"number {row + 1:,}" if keys is None else f"that of the key {keys[row]!r}"


def check_values(numbers: NDArray[Any], rows: RowChecks) -> None:
    bad_N = _by_block(numbers, lambda block: ~np.isfinite(block).reshape(len(block), -1).all(axis=1))
    rows.refuse(bad_N, "with values that are NaN or infinite", "Check what made them.")


def check_all_classes(numbers_NC: NDArray[Any], kind: Kind, rows: RowChecks, *, head: Head) -> None:
    def refuse(is_bad: Test, found: str, step: str) -> None:
        rows.refuse(_by_block(numbers_NC, is_bad), found, step)

    refuse(lambda block: np.isnan(block).any(axis=1), "with NaN", "Check what made them.")
    refuse(lambda block: np.isposinf(block).any(axis=1), "with an infinite number", "Check what made them.")
    if kind == "logits":
        return
    if kind == "log_probabilities":
        refuse(
            lambda block: (block > SUM_TOLERANCE).any(axis=1),
            "with log-probabilities above 0",
            "If these are raw logits, say `predictions.kind = logits`.",
        )
    else:
        refuse(
            lambda block: (block < 0).any(axis=1),
            f"with {kind} below 0",
            "If these are logits or log-probabilities, say so with `predictions.kind`.",
        )
    if kind == "votes":
        refuse(
            lambda block: (block != np.rint(block)).any(axis=1) | (block.sum(axis=1) < 1),
            "without a vote, or with a part of one",
            "Votes are whole numbers, at least one a row; shares of them are `predictions.kind = probabilities`.",
        )
        return
    if head == "sigmoid":
        refuse(
            lambda block: (as_probability(block, kind) > 1 + SUM_TOLERANCE).any(axis=1),
            "with probabilities above 1",
            "Divide percentages by 100.",
        )
        return
    refuse(
        lambda block: np.abs(as_probability(block, kind).sum(axis=1) - 1) > SUM_TOLERANCE,
        "whose probabilities don't sum to 1",
        "If they are logits, say `predictions.kind = logits`; if each class is a choice of its own, `dump.head = "
        "sigmoid`; if they are the likeliest classes alone, give their numbers as `class_ids`.",
    )


def as_probability(block: NDArray[Any], kind: Kind) -> NDArray[np.float64]:
    numbers = block.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.exp(numbers) if kind == "log_probabilities" else numbers


def check_top_k(
    ids_NK: NDArray[np.int64], numbers_NK: NDArray[Any], kind: Kind, rows: RowChecks, *, num_classes: int
) -> None:
    is_there_NK = ids_NK != NO_CLASS
    rows.refuse(~is_there_NK.any(axis=1), "without a class", "Leave them out.")
    rows.refuse(
        ((ids_NK < 0) & is_there_NK | (ids_NK >= num_classes)).any(axis=1),
        f"with a class id that isn't in 0..{num_classes - 1}",
        "Count classes from 0, or change `predictions.num_classes`.",
    )
    ordered_NK = np.sort(ids_NK, axis=1)
    is_twice_N = ((np.diff(ordered_NK, axis=1) == 0) & (ordered_NK[:, 1:] != NO_CLASS)).any(axis=1)
    rows.refuse(is_twice_N, "with a class twice", "Give each class of a row once.")
    p_NK = np.where(is_there_NK, as_probability(numbers_NK, kind), 0)
    rows.refuse(~np.isfinite(p_NK).all(axis=1), "with NaN or infinite numbers", "Check what made them.")
    rows.refuse((p_NK < 0).any(axis=1), "with probabilities below 0", "Say what they are with `predictions.kind`.")
    rows.refuse(
        (p_NK > 1 + SUM_TOLERANCE).any(axis=1) | (p_NK.sum(axis=1) > 1 + SUM_TOLERANCE),
        f"whose {kind.replace('_', '-')} sum to more than 1"
        if kind == "probabilities"
        else "whose log-probabilities are above 0, or stand for more than 1 in all",
        "Say what they are with `predictions.kind`.",
    )
    rows.refuse(
        (np.diff(p_NK, axis=1) > 1e-9).any(axis=1),
        "whose classes don't stand with the likeliest first",
        "Sort class ids and numbers together.",
    )


def check_names(columns: Columns, names: tuple[str, ...] | None, *, num_classes: int) -> None:
    if names is not None and len(names) != num_classes:
        raise InvalidOption(
            f"{columns.where}: has {num_classes:,} classes, but there are {len(names):,} class names. Name each class "
            f"once, in the order of the predictions."
        )
    if names is not None and len(set(names)) < len(names):
        raise InvalidOption(f"{columns.where}: a class name is there twice. Give each class a name of its own.")


def _by_block(numbers: NDArray[Any], test: Test) -> NDArray[np.bool_]:
    """bool [N], block by block."""
    blocks = [test(numbers[start : start + BLOCK_ROWS]) for start in range(0, len(numbers), BLOCK_ROWS)]
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=bool)
