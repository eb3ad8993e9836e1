"""A hard target for each unit of a sample: tags of the words of a text."""

# Shape letters: N samples, U units of all of them, C classes of the source.

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from softlab.errors import SourceError, first_few, suggest
from softlab.sources.label_sets import is_label_list
from softlab.sources.source import Source

UNKNOWN = -1
NO_LABEL = -100
"""What token classifiers are often given where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelSequences:
    """Those of N samples."""

    targets_U: NDArray[np.int64]
    """-1 where unknown, one sample behind the other."""

    first_N1: NDArray[np.int64]
    """Where those of each sample begin; the number of all at the end."""

    is_known_N: NDArray[np.bool_]
    """False for a sample that has no list, of whose units nothing is known."""

    def __len__(self) -> int:
        return len(self.is_known_N)

    def of(self, index: int) -> NDArray[np.int64] | None:
        """Those of one sample; None where it has no list."""
        if not self.is_known_N[index]:
            return None
        return self.targets_U[self.first_N1[index] : self.first_N1[index + 1]]

    def chosen(self, chosen_N: NDArray[np.int64]) -> "LabelSequences":
        """Those of the samples at these indices."""
        counts = np.diff(self.first_N1)[chosen_N]
        first_N1 = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(first_N1[-1]) + np.repeat(self.first_N1[chosen_N] - first_N1[:-1], counts)
        return LabelSequences(targets_U=self.targets_U[places], first_N1=first_N1, is_known_N=self.is_known_N[chosen_N])

    def moved(self, new_C: NDArray[np.int64]) -> "LabelSequences":
        """The same where class c is number `new_C[c]`."""
        targets_U = np.where(self.targets_U < 0, UNKNOWN, new_C[self.targets_U])
        return LabelSequences(targets_U=targets_U, first_N1=self.first_N1, is_known_N=self.is_known_N)


def label_sequences(source: Source) -> LabelSequences | None:
    """Those of a source; None where a sample has one label, or none."""
    found: LabelSequences | None = getattr(source, "label_sequences", None)
    return found


def read_label_sequences(
    where: str, cells: Any, *, known_names: tuple[str, ...] | None, class_names: tuple[str, ...]
) -> tuple[LabelSequences, tuple[str, ...] | None]:
    """Those of a column of lists, and the names of their classes: numbers, or names; null, "", -1 and -100 where a unit
    has no label. `known_names` come with the data, `class_names` are given by the user. Raises SourceError."""
    if not is_label_list(cells.type):
        raise SourceError(no_lists(where))
    cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    counts_N = np.asarray(pc.fill_null(pc.list_value_length(cells), 0)).astype(np.int64)
    flat, names = pc.list_flatten(cells), known_names or class_names or None
    if pa.types.is_integer(flat.type):
        targets_U = _from_numbers(where, flat, names)
    elif pa.types.is_floating(flat.type) or pa.types.is_boolean(flat.type):
        raise SourceError(f"{where}: its lists hold {flat.type}, and labels of units are integers or names of classes.")
    else:
        targets_U, names = _from_names(where, flat, names)
    first_N1 = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts_N)])
    return LabelSequences(targets_U=targets_U, first_N1=first_N1, is_known_N=np.asarray(pc.is_valid(cells))), names


def no_lists(where: str) -> str:
    """The message for a source without such a column."""
    return (
        f"{where}: `source.label_sequences` asks for a list of labels a sample, and the label column holds none. Name "
        f"another one with `source.label_column`, or leave `source.label_sequences` out."
    )


def _from_numbers(where: str, flat: Any, names: tuple[str, ...] | None) -> NDArray[np.int64]:
    numbers_U = np.asarray(pc.fill_null(flat.cast(pa.int64()), UNKNOWN))
    targets_U = np.where(numbers_U == NO_LABEL, UNKNOWN, numbers_U)
    highest = np.iinfo(np.int64).max if names is None else len(names)
    wrong = targets_U[(targets_U < UNKNOWN) | (targets_U >= highest)]
    if len(wrong):
        expected = "0 or more" if names is None else f"0 to {highest - 1} for its {highest} class names"
        raise SourceError(
            f"{where}: label {wrong[0]} in a list, expected {expected}, or -100 where a unit has none. Correct "
            f"{len(wrong):,} of them."
        )
    return targets_U


def _from_names(where: str, flat: Any, names: tuple[str, ...] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    texts = flat.cast(pa.large_string())
    found = sorted(text for text in pc.unique(texts).to_pylist() if text)
    names = names or tuple(found)
    unknown = [text for text in found if text not in names]
    if unknown:
        raise SourceError(
            f"{where}: the labels {first_few(unknown)} are none of the {len(names)} class names. "
            f"{suggest(unknown[0], names)} Correct them, or add them to `source.class_names`."
        )
    numbers = pc.fill_null(pc.index_in(texts, value_set=pa.array(names, pa.large_string())), UNKNOWN)
    return np.asarray(numbers).astype(np.int64), names
