"""Which columns of a table can be hard targets: integers, and texts or booleans as the names of classes."""

# Shape letters: N rows of a file.

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from softlab.errors import InvalidOption, SourceError, first_few, suggest
from softlab.sources.label_sets import is_label_list

MOST_NAMES = 0.5
"""Of the rows; a column with more different texts holds captions or identifiers, not classes."""

FEW_ROWS = 100
"""So few rows may well be of a class each."""


def is_integer(found: Any) -> bool:
    return bool(pa.types.is_integer(_plain(found)))


def is_name(found: Any) -> bool:
    """Whether values of this type are read as names of classes."""
    plain = _plain(found)
    return bool(
        pa.types.is_string(plain)
        or pa.types.is_large_string(plain)
        or pa.types.is_string_view(plain)
        or pa.types.is_boolean(plain)
    )


def check_label_column(path: str | Path, schema: Any, column: str) -> None:
    """Raises SourceError for a column that isn't there or can't be hard targets, with those that can."""
    names = schema.names
    if column in names and _can_be_labels(schema.field(column).type):
        return
    found = "is not there"
    if column in names:
        found = f"has type {schema.field(column).type}, which can't be the number of a class"
    integers = [name for name in names if is_integer(schema.field(name).type)]
    able = [*integers, *(name for name in names if is_name(schema.field(name).type))]
    step = (
        f"{suggest(column, able)} Name a column of integers or texts with `source.label_column`."
        if able
        else "It has no column of integers or texts: write one that numbers the classes from 0, -1 where unknown."
    )
    raise SourceError(f"{path}: the column {column!r} {found}. {step}")


def _can_be_labels(found: Any) -> bool:
    return is_integer(found) or is_name(found) or is_label_list(found)


def read_labels(cells: Any) -> tuple[NDArray[np.int64] | None, Any]:
    """The hard targets of a column of integers, -1 where unknown; or, of others, the names of classes: one Arrow text a
    row, null where unknown. The one that isn't there is None."""
    if is_name(cells.type):
        return None, cells.cast(_plain(cells.type)).cast(pa.large_string())
    return np.array(cells.cast(pa.int64()).fill_null(-1), dtype=np.int64), None


def check_targets(path: str | Path, targets_N: NDArray[np.int64], class_names: tuple[str, ...] | None) -> None:
    """Raises SourceError for a target that is no class."""
    num_classes = len(class_names) if class_names is not None else np.iinfo(np.int64).max
    wrong = np.flatnonzero((targets_N < -1) | (targets_N >= num_classes))
    if len(wrong):
        expected = "0 or more" if class_names is None else f"0 to {num_classes - 1} for its {num_classes} class names"
        raise SourceError(
            f"{path}, row {wrong[0]}: label {targets_N[wrong[0]]}, expected {expected}, or -1 where unknown. "
            f"Correct the {len(wrong):,} such rows, or the class names in the file's metadata."
        )


def name_classes(
    where: str, columns: Sequence[Any], class_names: tuple[str, ...]
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """The targets of some files, and their classes: the different texts, sorted, unless the names are given. Raises
    SourceError for a text that is none of them, and for texts that can't be classes."""
    texts = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.large_string())
    found = sorted(text for text in pc.unique(texts).to_pylist() if text is not None)
    num_rows = len(texts)
    if num_rows > FEW_ROWS and len(found) > MOST_NAMES * num_rows:
        raise SourceError(
            f"{where}: the label column has {len(found):,} different texts in {num_rows:,} rows, such as "
            f"{first_few(found)}, so they aren't classes. Name the column that holds classes with "
            f"`source.label_column`."
        )
    unknown = [name for name in found if class_names and name not in class_names]
    if unknown:
        raise SourceError(
            f"{where}: the label {unknown[0]!r} is none of the {len(class_names)} class names. "
            f"{suggest(unknown[0], class_names)} Correct it, or add it to `source.class_names`."
        )
    names = class_names or tuple(found)
    values = pa.array(names, pa.large_string())
    numbers = [pc.fill_null(pc.index_in(column, value_set=values), -1) for column in columns]
    return [np.asarray(each).astype(np.int64) for each in numbers], names


def names_of_numbers(where: str) -> InvalidOption:
    """The error for class names that are given for labels without need of them."""
    return InvalidOption(
        f"{where}: class_names give the order of labels that are texts, and these are numbers already. "
        f"Leave out `source.class_names`."
    )


def _plain(found: Any) -> Any:
    """The type of the values, where they are numbered by a dictionary."""
    return found.value_type if pa.types.is_dictionary(found) else found
