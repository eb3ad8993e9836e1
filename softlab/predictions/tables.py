"""Predictions in Parquet and CSV: a column of lists, or one column a class."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from softlab.errors import SourceError, first_few
from softlab.foreign_parquet import ForeignParquet
from softlab.keys import Keys
from softlab.predictions.coded_texts import check_lists, is_text, written_out
from softlab.predictions.columns import (
    ALSO_KEYS,
    CLASS_IDS,
    CONTENT_HASH,
    NO_CLASS,
    VIEW,
    Columns,
    columns_of,
    gathered,
    padded,
)
from softlab.predictions.memory import check_parquet
from softlab.predictions.options import PredictionOptions

HEADER_BYTES = 1 << 20
"""Of a CSV file: Arrow reads none that is longer."""


def read_parquet(files: Sequence[Path], options: PredictionOptions, *, where: str) -> Columns:
    """All rows of some files, in their order. Raises SourceError for one that can't be read, or has other columns."""
    tables = [_read_parquet(file, options) for file in files]
    other = next((place for place, table in enumerate(tables) if table.schema != tables[0].schema), None)
    if other is not None:
        raise SourceError(f"{files[other]}: has other columns than {files[0].name}. Write all parts alike.")
    return _columns(pa.concat_tables(tables), options, where=where)


def read_csv(file: Path, options: PredictionOptions) -> Columns:
    """A table with a header: the column of keys, and one column of numbers a class."""
    texts = dict.fromkeys((options.key_column, *ALSO_KEYS, CONTENT_HASH), pa.string())
    try:
        _check_header(file)
        table = pa.csv.read_csv(file, convert_options=pa.csv.ConvertOptions(column_types=texts))
    except (pa.ArrowException, ValueError, csv.Error) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(f"{file}: can't be read as CSV: {reason}. Check the file, or get it again.") from error
    return _columns(table, options, where=str(file))


def _check_header(file: Path) -> None:
    """Raises ValueError for a name that is there twice: of a million columns without names Arrow takes 8 GB."""
    with file.open("rb") as opened:
        line = opened.readline(HEADER_BYTES).decode("utf-8-sig", "replace")
    names = next(csv.reader([line]), [])
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have the same name, {Counter(names).most_common(1)[0][0]!r}")


def _read_parquet(file: Path, options: PredictionOptions) -> Any:
    try:
        with ForeignParquet(file) as opened:
            texts = [field.name for field in opened.schema if is_text(field.type)]
        with ForeignParquet(file, coded=texts) as opened:
            check_parquet(file, opened.metadata)
            wanted = {options.column, options.key_column, *ALSO_KEYS, CONTENT_HASH, CLASS_IDS, VIEW}
            names = [name for name in opened.schema.names if options.column is None or name in wanted]
            check_lists(opened.schema, names)
            return written_out(opened.read(names))
    except ValueError as error:
        raise SourceError(f"{file}: can't be read as Parquet: {error}. Check the file, or get it again.") from error


def _columns(table: Any, options: PredictionOptions, *, where: str) -> Columns:
    arrays: dict[str, Any] = {}
    single: dict[str, NDArray[Any]] = {}
    others: list[str] = []
    key_names = (options.key_column, *ALSO_KEYS)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in arrays or name in single:
            raise SourceError(f"{where}: has two columns `{name}`. Leave one out.")
        if column.null_count:
            row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
            raise SourceError(f"{where}: row {row + 1:,} has no `{name}`. Give each sample one, or leave out its row.")
        if name in key_names:
            arrays[name] = _keys(column, name=name, where=where)
        elif name == CONTENT_HASH:
            arrays[name] = column.to_pylist()
        elif name == VIEW:
            arrays[name] = column.to_numpy()
        elif _is_list(column.type):
            arrays[name] = _as_array(column, name=name, where=where)
        elif name == options.column:
            arrays[name] = column.to_numpy()
        elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            single[name] = column.to_numpy()
        else:
            others.append(name)
    if single and not any(name not in (*key_names, CONTENT_HASH, VIEW) for name in arrays):
        if others:
            raise SourceError(
                f"{where}: beside one column a class it has {first_few(others)}, which are no numbers. Leave them out."
            )
        arrays |= gathered(single, options, where=where)
    return columns_of(arrays, options, where=where)


def _is_list(found: Any) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(found) for is_kind in kinds)


def _keys(column: Any, *, name: str, where: str) -> Keys:
    try:
        return Keys.from_arrow(pc.cast(column, pa.large_string()))
    except (pa.ArrowException, ValueError) as error:
        raise SourceError(f"{where}: its keys `{name}` are {column.type}. Write them as texts.") from error


def _as_array(column: Any, *, name: str, where: str) -> NDArray[Any]:
    """[N, width] of lists of one length; shorter ones are filled up."""
    try:
        return _filled_up(column, fill=NO_CLASS if name == CLASS_IDS else -np.inf)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(
            f"{where}: its `{name}` can't be read as lists of numbers: {reason}. Write one row a sample."
        ) from error


def _filled_up(column: Any, *, fill: float) -> NDArray[Any]:
    lengths = np.asarray(pc.list_value_length(column).combine_chunks())
    values = column.combine_chunks().flatten()
    if _is_list(values.type):  # of maps, row by row
        return np.array(column.to_pylist(), dtype=np.float64)
    flat = values.to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths == lengths[0]).all():
        return np.asarray(flat.reshape(len(lengths), int(lengths[0])))
    ends = np.cumsum(lengths)
    rows = (flat[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True))
    return padded(rows, fill=fill)
