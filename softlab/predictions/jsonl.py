"""Predictions in JSON Lines: one record a sample, with lists, with names of classes, or as a chat service answers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.errors import SourceError, first_few
from softlab.keys import Keys
from softlab.predictions.chat import logprobs_of
from softlab.predictions.columns import (
    ALSO_KEYS,
    CLASS_IDS,
    CONTENT_HASH,
    NO_CLASS,
    VIEW,
    Columns,
    columns_of,
    padded,
)
from softlab.predictions.named import NamedEntries
from softlab.predictions.options import KINDS, PredictionOptions

MAX_LINE_BYTES = 64 << 20
"""Of one record; more is no record."""


def read_jsonl(file: Path, options: PredictionOptions, *, class_names: Sequence[str] | None) -> Columns:
    """Raises SourceError naming the line of a record that isn't one, lacks what the first one has, or whose answer has
    no log-probabilities."""
    keys: list[str] = []
    beside: dict[str, list[Any]] = {CONTENT_HASH: [], VIEW: []}
    arrays: dict[str, list[NDArray[Any]]] = {}
    entries = NamedEntries(class_names, where=str(file))
    for count, (number, record) in enumerate(_records(file), start=1):
        where = f"{file}: line {number:,}"
        keys += _key(record, options, where=where)
        for name, values in beside.items():
            values += [record[name]] if name in record else []
        for name, value in _predictions(record, options, where=where):
            if isinstance(value, Mapping):
                entries.add(name, value, where=where)
            else:
                arrays.setdefault(name, []).append(_as_row(name, value, where=where))
        lengths = {name: len(rows) for name, rows in arrays.items()} | entries.lengths
        lengths |= {options.key_column: len(keys)} | {name: len(values) for name, values in beside.items()}
        _check_complete(lengths, num_records=count, where=where)
    found: dict[str, Any] = {name: _as_array(name, rows, where=str(file)) for name, rows in arrays.items()}
    found |= {options.key_column: Keys(keys)} if keys else {}
    found |= {name: values for name, values in beside.items() if values}
    if entries:
        return entries.columns(found, options)
    return columns_of(found, options, where=str(file))


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            if not line.strip():
                continue
            try:
                yield number, decoder.decode(line.removeprefix(b"\xef\xbb\xbf"))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise SourceError(
                    f"{file}: line {number:,} isn't a whole record: {str(error).rstrip('.')}. Check whether the file "
                    f"was written to its end, or leave that line out."
                ) from error


def _key(record: Mapping[str, Any], options: PredictionOptions, *, where: str) -> list[str]:
    name = next((each for each in (options.key_column, *ALSO_KEYS) if each in record), None)
    if name is None:
        return []
    key = record[name]
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise SourceError(f"{where}: its `{name}` is no text. Give the key of its sample there.")
    return [str(key)]


def _predictions(record: Mapping[str, Any], options: PredictionOptions, *, where: str) -> Iterator[tuple[str, Any]]:
    names = [name for name in (options.column, CLASS_IDS, *KINDS) if name is not None and name in record]
    if names:
        yield from ((name, record[name]) for name in names)
    else:
        yield "log_probabilities", logprobs_of(record, token=options.token, where=where)


def _check_complete(lengths: Mapping[str, int], *, num_records: int, where: str) -> None:
    """All records have the same fields, so that no column lags behind the others."""
    odd = [name for name, length in lengths.items() if length not in (0, num_records)]
    if odd:
        raise SourceError(
            f"{where}: has other fields than the records before it ({first_few(odd)}). Write all records alike, or "
            f"leave that line out."
        )


def _as_row(name: str, value: Any, *, where: str) -> NDArray[Any]:
    try:
        row = np.array(value)
    except (ValueError, TypeError, OverflowError, MemoryError):
        row = np.array(None)
    if row.dtype.kind not in "fiu":
        raise SourceError(f"{where}: its `{name}` are not all numbers, or no plain list. Write one row a sample.")
    return row


def _as_array(name: str, rows: Sequence[NDArray[Any]], *, where: str) -> NDArray[Any]:
    try:
        if all(row.ndim == 1 for row in rows) and len({len(row) for row in rows}) > 1:
            return padded(rows, fill=NO_CLASS if name == CLASS_IDS else -np.inf)
        return np.stack(rows)
    except ValueError as error:
        raise SourceError(f"{where}: its `{name}` are of several shapes: {error}. Write one row a sample.") from error
