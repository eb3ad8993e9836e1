"""Columns of an Arrow table as fields and keys of samples, whatever the table was read from."""

# Shape letters: N samples.

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlab.errors import SourceError, first_few, suggest
from softlab.keys import Keys
from softlab.sources.source import Raw


def check_field_column(where: str | Path, schema: Any, field: str, column: str) -> None:
    """Raises SourceError for a column that isn't there or can't be a field, with those that are there."""
    next_step = f"Name the column of the field {field!r}, as `source.image_column` or `source.fields.{field}`."
    if column not in schema.names:
        raise SourceError(
            f"{where}: there is no column {column!r} for the field {field!r}. {suggest(column, schema.names)} "
            f"(There are: {', '.join(schema.names)}.) {next_step}"
        )
    found = schema.field(column).type
    is_texts = _is_text(found) or _is_list_of_texts(found) or _is_list_of_structs(found)
    if not (_is_binary(_encoded(found)) or is_texts or _is_numbers(found)):
        columns = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names)
        raise SourceError(
            f"{where}: the column {column!r} for the field {field!r} has type {found}, expected binary, "
            f"struct<bytes: binary, path: string>, string, numbers, or lists of strings, numbers or structs. "
            f"(There are: {columns}.) {next_step}"
        )


def check_key_column(where: str | Path, schema: Any, column: str) -> None:
    """Raises SourceError for a column that isn't there or can't be keys, with those that can."""
    able = [name for name in schema.names if _can_be_keys(schema.field(name).type)]
    if column in able:
        return
    found = f"has type {schema.field(column).type}" if column in schema.names else "is not there"
    raise SourceError(
        f"{where}: the column {column!r} {found}, and keys are texts or integers. {suggest(column, able)} Name such a "
        f"column with `source.key_column`, or leave it out."
    )


def fast_cells(column: Any) -> Any:
    """The same column for `raw_cell`: of plain numbers a numpy array, which gives its cells ten times faster."""
    is_plain = _is_numbers(column.type) and not _is_list(column.type) and not column.null_count
    return column.to_numpy() if is_plain else column


def raw_cell(scalar: Any, field: str) -> Raw:
    """A cell as a source gives it; a list of texts is a tuple, one of structs, such as the turns of a chat, its JSON
    text. Raises ValueError for an empty one, or a list with holes."""
    if isinstance(scalar, np.generic):
        return np.asarray(scalar)
    if not scalar.is_valid:
        raise ValueError(f"the row holds no {field}")
    if _is_list(scalar.type) and scalar.values.null_count:
        raise ValueError(f"the list of its {field} holds {scalar.values.null_count:,} empty places")
    if _is_list_of_texts(scalar.type):
        return tuple(scalar.as_py())
    if _is_list_of_structs(scalar.type):
        return json.dumps(scalar.as_py(), ensure_ascii=False)
    if not _is_numbers(scalar.type):
        value: Raw = scalar.as_py()
        return value
    if _is_list(scalar.type):
        return np.array(scalar.values)
    return np.array(pa.array([scalar.as_py()], scalar.type))[0:1].reshape(())


def encoded_cell(scalar: Any, field: str) -> Raw:
    """The same, where encoded data may lie in a file whose path the cell holds. Raises ValueError, and OSError for a
    file that can't be read."""
    if not pa.types.is_struct(scalar.type):
        return raw_cell(scalar, field)
    data = scalar["bytes"]
    path = scalar["path"].as_py() if _has_path(scalar.type) else None
    return Path(path).read_bytes() if path and not data.is_valid else raw_cell(data, field)


def find_path_column(schema: Any, columns: Sequence[str]) -> str | None:
    """The first of these columns that has paths beside encoded data."""
    types = {column: schema.field(column).type for column in columns}
    return next((name for name, found in types.items() if pa.types.is_struct(found) and _has_path(found)), None)


def keys_from_paths(cells: Any) -> Keys:
    """Paths as keys, or row numbers where one is missing or not unique."""
    paths = cells.cast(pa.large_string())
    num_rows = len(paths)
    if pc.any(pc.equal(paths, "")).as_py() or pc.count_distinct(paths, mode="only_valid").as_py() < num_rows:
        return row_numbers(num_rows)
    return Keys.from_arrow(paths)


def row_numbers(num_rows: int) -> Keys:
    """As keys, all of one length."""
    width = len(str(num_rows - 1))
    return Keys(f"{row:0{width}}" for row in range(num_rows))


def keys_from_files(cells: Any, folder: Path | None) -> Keys:
    """As `keys_from_paths`, of cells whose data may lie in files: their paths relative to `folder`, or to the folder
    that holds all of them, so that they are the same on every machine."""
    paths, is_outside = pc.struct_field(cells, "path"), pc.is_null(pc.struct_field(cells, "bytes"))
    if not pc.all(pc.and_(is_outside, pc.is_valid(paths))).as_py():
        return keys_from_paths(paths)
    found = [Path(path) for path in paths.to_pylist()]
    if folder is None or not all(path.is_relative_to(folder) for path in found):
        folder = Path(os.path.commonpath({path.parent for path in found}))
    return keys_from_paths(pa.chunked_array([[path.relative_to(folder).as_posix() for path in found]], pa.string()))


def keys_from_column(where: str, cells: Any, column: str) -> Keys:
    """Raises SourceError where a key is missing, empty or there twice."""
    texts = cells.cast(pa.large_string())
    counts = pc.value_counts(texts).to_pylist()
    empty = sum(each["counts"] for each in counts if not each["values"])
    repeated = [each["values"] for each in counts if each["values"] and each["counts"] > 1]
    if empty or repeated:
        found = f"{empty:,} rows have none" if empty else f"{first_few(repeated)} stand there more than once"
        raise SourceError(
            f"{where}: the keys in the column {column!r} must name one row each, and {found}. Correct them, name "
            f"another column with `source.key_column`, or leave it out."
        )
    return Keys.from_arrow(texts)


def _can_be_keys(found: Any) -> bool:
    return bool(_is_text(found) or pa.types.is_integer(found))


def _encoded(found: Any) -> Any:
    """The type of the bytes in a struct<bytes, path>; of others the type itself."""
    return found.field("bytes").type if pa.types.is_struct(found) and found.get_field_index("bytes") >= 0 else found


def _has_path(found: Any) -> bool:
    return bool(found.get_field_index("path") >= 0)


def _is_binary(found: Any) -> bool:
    return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found) or pa.types.is_binary_view(found))


def _is_text(found: Any) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))


def _is_list(found: Any) -> bool:
    return bool(pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found))


def _is_list_of_texts(found: Any) -> bool:
    return _is_list(found) and _is_text(found.value_type)


def _is_list_of_structs(found: Any) -> bool:
    return _is_list(found) and bool(pa.types.is_struct(found.value_type))


def _is_numbers(found: Any) -> bool:
    number = found.value_type if _is_list(found) else found
    return bool(pa.types.is_integer(number) or pa.types.is_floating(number) or pa.types.is_boolean(number))
