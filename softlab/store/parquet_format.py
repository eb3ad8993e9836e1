"""Parquet in hive layout: `outputs/NAME/view=00000/part-00000.parquet`.

For SQL and data-frame tools: typed fixed-size lists, a `sample` column, page checksums. Values of more than one axis
are flattened; their shape is in the schema's metadata. An output with units has a row for each, and only those.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from softlab.foreign_parquet import ForeignParquet
from softlab.manifest import FieldRecord, OutputRecord, StorePlan
from softlab.parquet_pages import check_claims
from softlab.shards import Shard
from softlab.store.format import Array, Arrays, counts_in, decoding_facts, find_wrong_arrays


class ParquetFormat:
    """See `StoreFormat`."""

    def layout_files(self, plan: StorePlan) -> dict[str, bytes]:
        return {}

    def path_of(self, field: FieldRecord, shard: Shard) -> str:
        return f"{field.group}/view={shard.view:05d}/part-{shard.part:05d}.parquet"

    def encode(
        self, plan: StorePlan, shard: Shard, arrays: Arrays, *, rows_S: NDArray[np.int64] | None = None
    ) -> dict[str, bytes]:
        groups: dict[str, list[FieldRecord]] = {}
        for field in plan.storage.fields:
            groups.setdefault(self.path_of(field, shard), []).append(field)
        return {path: _encode_file(plan, shard, fields, arrays, rows_S=rows_S) for path, fields in groups.items()}

    def decode(
        self, plan: StorePlan, shard: Shard, fields: Sequence[FieldRecord], files: Mapping[str, bytes], out: Arrays
    ) -> None:
        opened = {path: ForeignParquet(data) for path, data in files.items()}
        for path, data in files.items():
            own = [field for field in plan.storage.fields if self.path_of(field, shard) == path]
            num_rows = next(len(out[field.name]) for field in fields if field in own)
            _check_claims(data, opened[path].metadata, own, num_rows=num_rows)
        wanted: dict[str, list[str]] = {}
        for field in fields:
            wanted.setdefault(self.path_of(field, shard), []).append(field.short_name)
        tables = {path: opened[path].read(names) for path, names in wanted.items()}
        for field in fields:
            column = _decode_column(tables[self.path_of(field, shard)], field)
            problem = find_wrong_arrays([field], {field.name: column}, num_rows=len(out[field.name]))
            if problem is not None:
                raise ValueError(problem)
            out[field.name][...] = column


def _check_claims(data: bytes, metadata: Any, fields: Sequence[FieldRecord], *, num_rows: int) -> None:
    """Raises ValueError for a file that says of itself that it has other rows, or decodes to much more than they take:
    Arrow would allocate it."""
    if metadata.num_rows != num_rows:
        raise ValueError(f"a file of {metadata.num_rows:,} rows instead of {num_rows:,}")
    num_values = 1 + sum(math.prod(field.row_shape) for field in fields)
    check_claims(data, metadata, row_bytes=_row_bytes(fields), row_values=num_values)


def _row_bytes(fields: Sequence[FieldRecord]) -> int:
    """Of a row in one file: its fields and the index of its sample."""
    return 8 + sum(field.row_bytes for field in fields)


def _encode_file(
    plan: StorePlan,
    shard: Shard,
    fields: Sequence[FieldRecord],
    arrays: Arrays,
    *,
    rows_S: NDArray[np.int64] | None,
) -> bytes:
    output, samples = plan.output_of(fields[0]), np.arange(shard.start, shard.stop, dtype=np.int64)
    counts_S = counts_in(plan, fields[0].group, arrays, rows_S=rows_S)
    columns = {"sample": pa.array(samples if counts_S is None else np.repeat(samples, counts_S))}
    columns |= {field.short_name: _column(field, arrays[field.name]) for field in fields}
    table = pa.table(columns).replace_schema_metadata(_schema_metadata(output, fields))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=min(field.chunk_rows for field in fields),
        compression="zstd",
        use_dictionary=_columns_of_bytes(fields) if len(table) else False,
        write_page_checksum=True,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _column(field: FieldRecord, array: Array) -> pa.Array:
    values = pa.array(array.reshape(-1))
    if not field.row_shape:
        return values
    return pa.FixedSizeListArray.from_arrays(values, int(np.prod(field.row_shape)))


def _columns_of_bytes(fields: Sequence[FieldRecord]) -> list[str]:
    """Those of int8. Parquet has no integers of one byte: plain ones take four, and when compressed still half as much
    again as places in a dictionary of the 255 numbers that there are."""
    return [
        f"{field.short_name}.list.element" if field.row_shape else field.short_name
        for field in fields
        if field.dtype == "int8"
    ]


def _decode_column(table: pa.Table, field: FieldRecord) -> Array:
    column = table[field.short_name].combine_chunks()
    is_list = pa.types.is_nested(column.type)
    of = getattr(column.type, "value_type", None) if is_list else column.type
    if is_list != bool(field.row_shape) or of != pa.from_numpy_dtype(field.dtype):
        raise ValueError(f"{field.name} has the type {column.type}")
    values: Array = (column.flatten() if field.row_shape else column).to_numpy(zero_copy_only=False)
    return values.reshape(-1, *field.row_shape)


def _schema_metadata(output: OutputRecord, fields: Sequence[FieldRecord]) -> dict[str, str]:
    row_shapes = {field.short_name: list(field.row_shape) for field in fields}
    return {"softlab": json.dumps(decoding_facts(output) | {"row_shapes": row_shapes})}
