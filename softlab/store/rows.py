"""Packed rows: the fields of one group side by side, so that a row is one stretch of memory and a batch one gather."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from softlab.manifest import FieldRecord
from softlab.shards import Dtype
from softlab.store.format import Array

if TYPE_CHECKING:
    from torch import Tensor

Rows = NDArray[np.uint8]
"""[rows, row_bytes]"""

TORCH_DTYPES: dict[Dtype, str] = {
    "int8": "int8",
    "uint8": "uint8",
    "uint16": "int16",
    "uint32": "int32",
    "float16": "float16",
    "float32": "float32",
}
"""torch's names. Wide unsigned integers are read as signed ones, with which torch can compute."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where each field lies in a row. Wider items come first, and rows are padded to them, so that all are aligned."""

    fields: tuple[FieldRecord, ...]
    starts: tuple[int, ...]
    """Of each field's bytes in a row."""

    row_bytes: int
    record: np.dtype[np.void]
    """The same as numpy tells it."""

    def pack(self, arrays: Mapping[str, Array]) -> Rows:
        """Some rows' arrays as packed rows."""
        rows = np.zeros((len(arrays[self.fields[0].name]), self.row_bytes), dtype=np.uint8)
        for name, column in self.columns(rows).items():
            column[...] = arrays[name]
        return rows

    def columns(self, rows: Rows) -> dict[str, Array]:
        """Each field's part of packed rows, by name; the same memory, to be read or written."""
        records = rows.view(self.record)[:, 0]
        return {field.name: records[field.name] for field in self.fields}

    def clear_padding(self, rows: Rows) -> None:
        """Equal rows are then equal bytes."""
        rows[:, sum(field.row_bytes for field in self.fields) :] = 0

    def unpack(self, rows: "Tensor") -> "dict[str, Tensor]":
        """Views into packed rows on any device, by field name. Each begins at a multiple of its items' size."""
        import torch  # here, because commands that only copy or check files start without it

        if len(rows) == 0:
            rows = rows.new_empty(rows.shape)  # numpy gives arrays without rows strides that can't be viewed so
        # Whole rows are viewed once as each type, as every operation costs microseconds however little it does.
        whole = {
            dtype: rows.view(getattr(torch, TORCH_DTYPES[dtype])) for dtype in {field.dtype for field in self.fields}
        }
        return {
            field.name: _column(whole[field.dtype], start // np.dtype(field.dtype).itemsize, field.row_shape)
            for field, start in zip(self.fields, self.starts, strict=True)
        }


def _column(items: "Tensor", start: int, row_shape: tuple[int, ...]) -> "Tensor":
    if not row_shape:
        return items[:, start]
    columns = items[:, start : start + math.prod(row_shape)]
    return columns if len(row_shape) == 1 else columns.view(len(items), *row_shape)


def layout_of(fields: Sequence[FieldRecord]) -> RowLayout:
    """The layout that every reader and every row cache uses for these fields."""
    ordered = tuple(sorted(fields, key=lambda field: -np.dtype(field.dtype).itemsize))
    widest = np.dtype(ordered[0].dtype).itemsize
    *starts, used = itertools.accumulate((field.row_bytes for field in ordered), initial=0)
    row_bytes = -(-used // widest) * widest
    record = np.dtype(
        {
            "names": [field.name for field in ordered],
            "formats": [(field.dtype, field.row_shape) for field in ordered],
            "offsets": starts,
            "itemsize": row_bytes,
        }
    )
    return RowLayout(fields=ordered, starts=tuple(starts), row_bytes=row_bytes, record=record)
