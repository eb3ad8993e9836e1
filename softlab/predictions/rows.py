"""From columns of predictions to rows that a store can hold, each checked."""

# Shape letters: N rows of the predictions, B rows that are asked for, C classes, K entries of a row.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import InvalidOption, SourceError
from softlab.labels.given import labels_of_given
from softlab.labels.soft_labels import Head, SoftLabels
from softlab.predictions.checks import (
    BLOCK_ROWS,
    SUM_TOLERANCE,
    RowChecks,
    as_probability,
    check_all_classes,
    check_names,
    check_top_k,
    check_values,
)
from softlab.predictions.columns import NO_CLASS, Columns, choose_numbers
from softlab.predictions.options import Kind, PredictionOptions

LOWEST = -65504.0
"""The logit of a class without any probability: the lowest that float16 holds, and 0 as a probability."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PredictedRows:
    """All rows of the predictions, in their own order."""

    where: str
    kind: Kind
    numbers: NDArray[Any]
    """Logits or log-probabilities [N, C] or [N, K], or values [N, ...]."""

    class_ids_NK: NDArray[np.int64] | None
    """Of the K that were told; None where all classes were, and of values."""

    num_classes: int
    """0 of values."""

    class_names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    """What users should know about them."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def is_top_k(self) -> bool:
        return self.class_ids_NK is not None

    @property
    def is_absolute(self) -> bool:
        """Whether logits have a level of their own."""
        return self.kind == "logits"

    def tensor(self, places_B: NDArray[np.int64]) -> Tensor:
        """float32 [B, ...]: logits of all classes, or values."""
        return torch.from_numpy(np.ascontiguousarray(self.numbers[places_B], dtype=np.float32))

    def labels(self, places_B: NDArray[np.int64], *, k: int) -> SoftLabels:
        """Of rows of which the K likeliest classes were told."""
        assert self.class_ids_NK is not None, "whoever asks has looked"
        return labels_of_given(
            torch.from_numpy(self.class_ids_NK[places_B, :k]),
            torch.from_numpy(self.numbers[places_B, :k]),
            num_classes=self.num_classes,
        )


def rows_of(
    columns: Columns, options: PredictionOptions, *, head: Head = "softmax", class_names: Sequence[str] | None = None
) -> PredictedRows:
    """The predictions of some columns. `class_names` are given ones, for columns without names.

    Raises SourceError naming the row of numbers that can't be what they are said to be, InvalidOption where the number
    of classes isn't known or names don't fit to it.
    """
    name, kind = choose_numbers(columns, options)
    numbers, checks = columns.numbers[name], RowChecks(columns)
    if numbers.dtype.kind not in "fiu" or numbers.ndim < 1:
        raise SourceError(f"{columns.where}: `{name}` holds {numbers.dtype}, expected numbers. Check the column.")
    if kind == "values":
        check_values(numbers, checks)
        return PredictedRows(
            where=columns.where,
            kind=kind,
            numbers=numbers,
            class_ids_NK=None,
            num_classes=0,
            class_names=None,
        )
    if numbers.ndim != 2:
        raise SourceError(
            f"{columns.where}: `{name}` has the shape {list(numbers.shape)}, expected [rows, classes]. Take another "
            f"column with `predictions.column`, or say `predictions.kind = values`."
        )
    names = columns.class_names if class_names is None else tuple(class_names)
    if columns.class_ids_NK is None:
        logits_NC = _all_classes(numbers, kind, checks, head=head)
        check_names(columns, names, num_classes=logits_NC.shape[1])
        return PredictedRows(
            where=columns.where,
            kind=kind,
            numbers=logits_NC,
            class_ids_NK=None,
            num_classes=logits_NC.shape[1],
            class_names=names,
            notes=_notes_of_zeros(logits_NC, where=columns.where) if kind != "logits" else (),
        )
    return _top_k(columns, name, kind, checks, options, names=names, head=head)


def _all_classes(numbers_NC: NDArray[Any], kind: Kind, checks: RowChecks, *, head: Head) -> NDArray[np.float32]:
    """Logits, or log-probabilities in their place; under a sigmoid head log odds."""
    check_all_classes(numbers_NC, kind, checks, head=head)
    if kind == "logits":
        return numbers_NC.astype(np.float32, copy=False)
    logits_NC = np.empty(numbers_NC.shape, dtype=np.float32)
    for start in range(0, len(numbers_NC), BLOCK_ROWS):
        block = numbers_NC[start : start + BLOCK_ROWS].astype(np.float64)
        with np.errstate(divide="ignore", over="ignore"):
            log_p = block if kind == "log_probabilities" else np.log(block)
            if kind == "votes":
                log_p -= np.log(block.sum(axis=1, keepdims=True))
            if head == "sigmoid":
                log_p -= np.log(-np.expm1(np.minimum(log_p, 0)))
        logits_NC[start : start + BLOCK_ROWS] = np.clip(log_p, LOWEST, -LOWEST)
    return logits_NC


def _notes_of_zeros(logits_NC: NDArray[np.float32], *, where: str) -> tuple[str, ...]:
    """That some losses make much of a class without any probability."""
    num_rows = int((logits_NC <= LOWEST).any(axis=1).sum())
    if not num_rows:
        return ()
    return (
        f"{where}: {num_rows:,} of {len(logits_NC):,} rows give some classes no probability at all. kl takes that as "
        f"it is; to reverse_kl, symmetric_kl, and losses that look at logits (standardised_kl, dist), it is a logit of "
        f"{LOWEST:,.0f}: smooth the predictions before you train with those",
    )


def _top_k(
    columns: Columns,
    name: str,
    kind: Kind,
    checks: RowChecks,
    options: PredictionOptions,
    *,
    names: tuple[str, ...] | None,
    head: Head,
) -> PredictedRows:
    ids_NK, numbers_NK = columns.class_ids_NK, columns.numbers[name]
    assert ids_NK is not None, "whoever calls has looked"
    if kind not in ("log_probabilities", "probabilities") or head == "sigmoid":
        raise InvalidOption(
            f"{columns.where}: of the likeliest classes alone (`class_ids`) log-probabilities or probabilities of a "
            f"softmax tell how much the others have, and {kind} of a {head} head don't. Import all classes."
        )
    num_classes = options.num_classes or (len(names) if names else None)
    if num_classes is None:
        raise InvalidOption(
            f"{columns.where}: how many classes there are isn't told by the likeliest ones. Say "
            f"`predictions.num_classes`, or name the classes with `class_names`."
        )
    check_names(columns, names, num_classes=num_classes)
    if ids_NK.shape != numbers_NK.shape:
        raise SourceError(
            f"{columns.where}: `class_ids` {list(ids_NK.shape)} and `{name}` {list(numbers_NK.shape)} have other "
            f"shapes. Give one number for each class id."
        )
    counts_N = (ids_NK != NO_CLASS).sum(axis=1)
    check_top_k(ids_NK, numbers_NK, kind, checks, num_classes=num_classes)
    k, most = int(counts_N.min(initial=ids_NK.shape[1])), int(counts_N.max(initial=0))
    p_NK = as_probability(numbers_NK[:, :k], kind)
    with np.errstate(divide="ignore"):
        log_p_NK = np.maximum(np.log(p_NK), LOWEST)
    if k == num_classes:
        if not columns.is_by_name:
            checks.refuse(
                np.abs(p_NK.sum(axis=1) - 1) > SUM_TOLERANCE, "whose probabilities don't sum to 1", "Check them."
            )
        log_p_NK = log_p_NK - np.log(p_NK.sum(axis=1, keepdims=True))
    notes = []
    if k < most:
        fewest = checks.tell(int(counts_N.argmin()))
        notes.append(
            f"{columns.where}: K = {k}, as some rows tell no more classes ({fewest}); others tell up to {most}, whose "
            f"further ones count as part of the rest"
        )
    if columns.left_out > 1e-3:
        notes.append(
            f"{columns.where}: {columns.left_out:.1%} of the probability is on tokens that name no class; it was left "
            f"out, and the rest scaled up"
        )
    return PredictedRows(
        where=columns.where,
        kind=kind,
        numbers=log_p_NK,
        class_ids_NK=ids_NK[:, :k],
        num_classes=num_classes,
        class_names=names,
        notes=tuple(notes),
    )
