"""Texts of a Parquet file that stand there once for many: counted as all of them before they are written out."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from softlab.predictions.memory import check_room


def is_text(found: Any) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_kind(found) for is_kind in kinds)


def check_lists(schema: Any, names: Sequence[str]) -> None:
    """Raises ValueError for lists of texts among some columns: one long text may stand in a file for many."""
    for field in schema:
        if field.name in names and pa.types.is_nested(field.type) and is_text(_innermost(field.type)):
            raise ValueError(f"`{field.name}` holds lists of {_innermost(field.type)}")


def _innermost(found: Any) -> Any:
    """What is in lists, at any depth."""
    value = getattr(found, "value_type", None)
    return found if value is None else _innermost(value)


def written_out(table: Any) -> Any:
    """The table with its coded texts as plain ones. Raises ValueError where there is no room for them."""
    coded = [place for place, field in enumerate(table.schema) if _is_coded(field.type)]
    check_room(sum(_text_bytes(chunk) for place in coded for chunk in table.column(place).chunks))
    for place in coded:
        column = table.column(place)
        table = table.set_column(place, table.field(place).name, column.cast(_wide(column.type.value_type)))
    return table


def _is_coded(found: Any) -> bool:
    return pa.types.is_dictionary(found) and is_text(found.value_type)


def _wide(found: Any) -> Any:
    """The type of texts that together may have more than 2 GB."""
    return pa.large_string() if pa.types.is_string(found) or pa.types.is_large_string(found) else pa.large_binary()


def _text_bytes(chunk: Any) -> int:
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(chunk.indices)).as_py() or 0
