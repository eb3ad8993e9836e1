"""Samples that may be of several classes at once (multi-label): a list of labels a sample."""

# Shape letters: N samples, C classes, L labels of all samples.

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from softlab.errors import SourceError, first_few, suggest
from softlab.sources.source import Source

UNKNOWN = -1
"""All of a row whose labels aren't known."""

LabelSets = NDArray[np.int8]
"""[N, C]: 1 for each class that a sample is of, else 0; a row of -1 where that isn't known."""


def label_sets(source: Source) -> LabelSets | None:
    """Those of a source; None where its samples are of one class each, or have no labels."""
    found: LabelSets | None = getattr(source, "label_sets", None)
    return found


def is_label_list(found: Any) -> bool:
    """Whether values of this Arrow type are lists of numbers, texts or booleans."""
    if not (pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)):
        return False
    value = found.value_type
    is_text = pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)
    is_number = pa.types.is_integer(value) or pa.types.is_floating(value)
    return bool(is_text or is_number or pa.types.is_boolean(value))


def read_label_sets(
    where: str, cells: Any, *, known_names: tuple[str, ...] | None, class_names: tuple[str, ...], are_vectors: bool
) -> tuple[LabelSets, tuple[str, ...] | None]:
    """The label sets of a column of lists, and the names of their classes.

    A list holds the numbers of a sample's classes, or their names; with `are_vectors`, or where it is one of booleans,
    a 0 or 1 for each class. `known_names` come with the data, `class_names` are given by the user. Raises SourceError.
    """
    cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    is_known_N = np.asarray(pc.is_valid(cells))
    lengths_N = np.asarray(pc.fill_null(pc.list_value_length(cells), 0)).astype(np.int64)
    flat = pc.list_flatten(cells)
    if flat.null_count:
        raise SourceError(f"{where}: {flat.null_count:,} labels inside its lists are empty. Take them out.")
    names = known_names or class_names or None
    if are_vectors or pa.types.is_boolean(flat.type):
        sets_NC = _from_vectors(where, flat, lengths_N[is_known_N])
    elif pa.types.is_integer(flat.type):
        sets_NC = _from_numbers(where, np.asarray(flat).astype(np.int64), lengths_N[is_known_N], names=names)
    elif pa.types.is_floating(flat.type):
        raise SourceError(
            f"{where}: its lists of labels hold fractions, which number no classes. If they are a 0 or 1 for each "
            f"class, say `source.label_vectors = true`."
        )
    else:
        names = names or tuple(sorted(pc.unique(flat).to_pylist()))
        sets_NC = _from_names(where, flat, lengths_N[is_known_N], names=names)
    if names is not None and len(names) != sets_NC.shape[1]:
        raise SourceError(
            f"{where}: its lists of labels are over {sets_NC.shape[1]:,} classes, and there are {len(names):,} class "
            f"names. Correct `source.class_names`."
        )
    found_NC = np.full((len(is_known_N), sets_NC.shape[1]), UNKNOWN, dtype=np.int8)
    found_NC[is_known_N] = sets_NC
    return found_NC, names


def move_classes(sets_NC: LabelSets, new_C: NDArray[np.int64], *, num_classes: int) -> LabelSets:
    """The same where class c is number `new_C[c]`, or is left out where that is -1; what becomes one class is 1 where
    any of it is."""
    moved_NC = np.zeros((len(sets_NC), num_classes), dtype=np.int8)
    for old, new in enumerate(new_C.tolist()):
        if new >= 0:
            np.maximum(moved_NC[:, new], sets_NC[:, old], out=moved_NC[:, new])
    moved_NC[(sets_NC < 0).any(axis=1)] = UNKNOWN
    return moved_NC


def with_more_classes(sets_NC: LabelSets, *, num_classes: int) -> LabelSets:
    """The same over so many classes, of the last of which no sample is."""
    return move_classes(sets_NC, np.arange(sets_NC.shape[1]), num_classes=num_classes)


def _from_vectors(where: str, flat: Any, lengths_N: NDArray[np.int64]) -> LabelSets:
    widths = np.unique(lengths_N)
    values_L = np.asarray(flat).astype(np.float64)
    if len(widths) > 1 or not np.isin(values_L, (0, 1)).all():
        found = f"have {widths[0]:,} to {widths[-1]:,} places" if len(widths) > 1 else "hold other numbers than 0 and 1"
        raise SourceError(
            f"{where}: its lists of labels are to have a 0 or 1 for each class, but {found}. Correct them, or, if they "
            f"name the classes of a sample, leave `source.label_vectors` out."
        )
    return values_L.astype(np.int8).reshape(len(lengths_N), int(widths[0]) if len(widths) else 0)


def _from_numbers(
    where: str, numbers_L: NDArray[np.int64], lengths_N: NDArray[np.int64], *, names: Sequence[str] | None
) -> LabelSets:
    num_classes = int(numbers_L.max(initial=-1)) + 1 if names is None else len(names)
    wrong = numbers_L[(numbers_L < 0) | (numbers_L >= num_classes)]
    if len(wrong):
        expected = "0 or more" if names is None else f"0 to {num_classes - 1} for its {num_classes} class names"
        raise SourceError(f"{where}: label {wrong[0]} in a list, expected {expected}. Correct {len(wrong):,} of them.")
    sets_NC = np.zeros((len(lengths_N), num_classes), dtype=np.int8)
    sets_NC[np.repeat(np.arange(len(lengths_N)), lengths_N), numbers_L] = 1
    return sets_NC


def _from_names(where: str, flat: Any, lengths_N: NDArray[np.int64], *, names: tuple[str, ...]) -> LabelSets:
    texts = flat.cast(pa.large_string())
    numbers = pc.index_in(texts, value_set=pa.array(names, pa.large_string()))
    unknown = [text for text in pc.unique(texts).to_pylist() if text not in names]
    if unknown:
        raise SourceError(
            f"{where}: the labels {first_few(unknown)} are none of the {len(names)} class names. "
            f"{suggest(unknown[0], names)} Correct them, or add them to `source.class_names`."
        )
    return _from_numbers(where, np.asarray(numbers).astype(np.int64), lengths_N, names=names)
