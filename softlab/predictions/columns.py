"""Predictions as they were read: named columns of rows, nothing of which is checked yet."""

# Shape letters: N rows, C classes, K entries of a row.

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlab.errors import SourceError, first_few
from softlab.keys import Keys
from softlab.predictions.memory import check_room
from softlab.predictions.options import KINDS, Kind, PredictionOptions

CLASS_IDS, CLASS_NAMES, CONTENT_HASH, VIEW = "class_ids", "class_names", "content_hash", "view"

ALSO_KEYS = ("keys", "custom_id")
"""Names of a column of keys beside the one that is asked for: of an npz file, and of services that answer many
requests."""

NO_CLASS = -1
"""In `class_ids`, where a row has fewer entries than others."""

ENTRY_BYTES = 8
"""Of a number that rows are filled up with."""

NO_PREDICTIONS = ("", "index", "id", "label", "labels", "target", "targets", "prediction", "predicted", "split", "fold")
"""Columns of numbers that tables of predictions often have beside one a class: taken for classes, they would be one
more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Columns:
    """What a file of predictions, or a Python iterable of batches, holds."""

    where: str
    """The file, for messages."""

    keys: Keys | None
    content_hashes: Sequence[str] | None = None
    """Hex digits, one a row."""

    views_N: NDArray[np.int64] | None = None
    """Which view of its sample each row is of; None where there is one."""

    numbers: Mapping[str, NDArray[Any]]
    """By name: [N, C], [N, K] beside `class_ids`, or of values [N, ...]."""

    class_ids_NK: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] | None = None
    """In the order of C."""

    is_by_name: bool = False
    """Whether entries were found by the names of their classes, so that their order tells nothing."""

    left_out: float = 0.0
    """Mean probability of tokens that name no class."""

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.numbers.values()), ()))


def columns_of(arrays: Mapping[str, Any], options: PredictionOptions, *, where: str) -> Columns:
    """Of arrays by name, such as an npz file has. Raises SourceError for arrays of other lengths, or other types."""
    found: dict[str, Any] = dict(arrays)
    keys = _take_keys(found, options, where=where)
    hashes, ids, names, views = (found.pop(name, None) for name in (CONTENT_HASH, CLASS_IDS, CLASS_NAMES, VIEW))
    columns = Columns(
        where=where,
        keys=keys,
        content_hashes=None if hashes is None else _hex_digits(hashes, where=where),
        views_N=None if views is None else _view_numbers(np.asarray(views), where=where),
        numbers={name: np.asarray(value) for name, value in found.items()},
        class_ids_NK=None if ids is None else _whole(np.asarray(ids), where=where),
        class_names=None if names is None else _texts(CLASS_NAMES, np.asarray(names), where=where),
    )
    _check_lengths(columns)
    return columns


def gathered(columns: Mapping[str, NDArray[Any]], options: PredictionOptions, *, where: str) -> dict[str, Any]:
    """One column a class as one array with class names, under the name of its kind. Raises SourceError where the kind
    isn't told, or a column can't be one of a class."""
    odd = [name for name in columns if name.casefold() in NO_PREDICTIONS]
    if odd:
        raise SourceError(
            f"{where}: each column of numbers would be a class, also {first_few(odd)}. Leave out what is no "
            f"prediction, or put the predictions into one column of lists, named by `predictions.column`."
        )
    if options.kind is None:
        raise SourceError(
            f"{where}: has a column for each of {len(columns):,} classes ({first_few(list(columns))}), but what their "
            f"numbers are isn't told. Say `predictions.kind`, one of {', '.join(KINDS)}."
        )
    array = np.stack(list(columns.values()), axis=1)
    return {options.kind: array} | ({} if options.kind == "values" else {CLASS_NAMES: tuple(columns)})


def choose_numbers(columns: Columns, options: PredictionOptions) -> tuple[str, Kind]:
    """The name of the column that holds the predictions, and their kind. Raises SourceError where that isn't clear."""
    names = list(columns.numbers)
    by_kind = [name for name in names if name in KINDS]
    name = options.column or (options.kind if options.kind in names else None)
    if name is None and len(by_kind or names) == 1:
        (name,) = by_kind or names
    if name is None:
        raise SourceError(
            f"{columns.where}: which of its columns are the predictions isn't clear (it has: "
            f"{', '.join(names) or 'none of numbers'}). Name one with `predictions.column`, or call it by its kind: "
            f"{', '.join(KINDS)}."
        )
    if name not in names:
        raise SourceError(
            f"{columns.where}: has no column of numbers {name!r} (it has: {', '.join(names) or 'none'}). Change "
            f"`predictions.column`."
        )
    kind = options.kind or next((each for each in KINDS if each == name), None)
    if kind is None:
        raise SourceError(
            f"{columns.where}: what the numbers of `{name}` are isn't told. Say `predictions.kind`, one of "
            f"{', '.join(KINDS)}."
        )
    return name, kind


def padded(rows: Iterable[Sequence[Any] | NDArray[Any]], *, fill: float) -> NDArray[Any]:
    """Rows of several lengths as one array, filled up at their ends. Raises ValueError where there is no room."""
    held = list(rows)
    width = max((len(row) for row in held), default=0)
    check_room(len(held) * width * ENTRY_BYTES)
    array = np.full((len(held), width), fill, dtype=np.int64 if isinstance(fill, int) else np.float64)
    for place, row in enumerate(held):
        array[place, : len(row)] = row
    return array


def _take_keys(found: dict[str, Any], options: PredictionOptions, *, where: str) -> Keys | None:
    name = next((each for each in (options.key_column, *ALSO_KEYS) if each in found), None)
    if name is None:
        return None
    values = found.pop(name)
    if isinstance(values, Keys):
        return values
    return Keys(_texts(name, np.asarray(values), where=where))


def _texts(name: str, array: NDArray[Any], *, where: str) -> tuple[str, ...]:
    if array.dtype.kind not in "UTOiu" or array.ndim != 1:
        raise SourceError(
            f"{where}: its `{name}` are {array.dtype} with {array.ndim} axes, expected one text a row. Write them as "
            f"texts."
        )
    try:
        _check_characters(array)
        texts = tuple(map(str, array.tolist()))
        "".join(texts).encode()
    except ValueError as error:
        raise SourceError(f"{where}: its `{name}` are no text: {error}. Write them as Unicode.") from error
    return texts


def _check_characters(array: NDArray[Any]) -> None:
    """Raises ValueError for numbers that are no characters: numpy makes texts of them that Python can't use."""
    if array.dtype.kind == "U" and array.dtype.itemsize and len(array):
        most = np.ascontiguousarray(array).view(f"{array.dtype.byteorder}u4").max()
        if most > sys.maxunicode:
            raise ValueError(f"there is no character {most:#x}")


def _hex_digits(hashes: Any, *, where: str) -> list[str]:
    """Of hex digits, or of the bytes themselves."""
    is_bytes = isinstance(hashes, np.ndarray) and hashes.dtype == np.uint8 and hashes.ndim == 2
    found = list(map(bytes, hashes)) if is_bytes else list(hashes) if np.ndim(hashes) == 1 else [hashes]
    odd = next((each for each in found if not isinstance(each, str | bytes)), None)
    if odd is not None:
        raise SourceError(
            f"{where}: its `{CONTENT_HASH}` holds a {type(odd).__name__}, expected hex digits. Write each as a text."
        )
    return [each if isinstance(each, str) else each.hex() for each in found]


def _whole(ids: NDArray[Any], *, where: str) -> NDArray[np.int64]:
    if ids.dtype.kind not in "iu" or ids.ndim != 2:
        raise SourceError(
            f"{where}: `class_ids` are {ids.dtype} {list(ids.shape)}, expected whole numbers, as many in each row."
        )
    return ids.astype(np.int64)


def _view_numbers(views: NDArray[Any], *, where: str) -> NDArray[np.int64]:
    if views.dtype.kind not in "iu" or views.ndim != 1 or not _are_below(views, len(views)):
        raise SourceError(
            f"{where}: its `{VIEW}` are {views.dtype} {list(views.shape)}, expected a whole number a row, counted from "
            f"0: which of several answers for its sample it is. Correct the column, or leave it out."
        )
    return views.astype(np.int64)


def _are_below(numbers: NDArray[Any], limit: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= 0 and int(numbers.max()) < limit)


def _check_lengths(columns: Columns) -> None:
    lengths = {name: len(array) if array.ndim else 0 for name, array in columns.numbers.items()}
    beside = {"key": columns.keys, CLASS_IDS: columns.class_ids_NK, CONTENT_HASH: columns.content_hashes}
    beside[VIEW] = columns.views_N
    lengths |= {name: len(value) for name, value in beside.items() if value is not None}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise SourceError(f"{columns.where}: its columns have other numbers of rows ({told}). Write one row a sample.")
