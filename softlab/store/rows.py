"""Packed rows: the fields of one group side by side, so that a row is one stretch of memory and a batch one gather."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.manifest import FieldRecord
from softlab.shards import Dtype
from softlab.store.format import Array

Rows = NDArray[np.uint8]
"""[rows, row_bytes]"""

TORCH_DTYPES: dict[Dtype, torch.dtype] = {
    "uint8": torch.uint8,
    "uint16": torch.int16,
    "uint32": torch.int32,
    "float16": torch.float16,
    "float32": torch.float32,
}
"""Wide unsigned integers are read as signed ones, with which torch can compute."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where each field lies in a row. Wider items come first, and rows are padded to them, so that all are aligned."""

    fields: tuple[FieldRecord, ...]
    starts: tuple[int, ...]
    """Of each field's bytes in a row."""

    row_bytes: int

    def pack(self, arrays: Mapping[str, Array], out: Rows | None = None) -> Rows:
        """Some rows' arrays as packed rows, in `out` where it is given."""
        rows = out
        if rows is None:
            rows = np.empty((len(arrays[self.fields[0].name]), self.row_bytes), dtype=np.uint8)
        end = 0
        for field, start in zip(self.fields, self.starts, strict=True):
            end = start + field.row_bytes
            flat = np.ascontiguousarray(arrays[field.name]).reshape(len(rows), -1)
            rows[:, start:end] = flat.view(np.uint8)
        rows[:, end:] = 0
        return rows

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """Views into packed rows on any device, by field name. Each begins at a multiple of its items' size."""
        if len(rows) == 0:
            rows = rows.new_empty(rows.shape)  # numpy gives arrays without rows strides that can't be viewed so
        return {
            field.name: rows[:, start : start + field.row_bytes]
            .view(TORCH_DTYPES[field.dtype])
            .view(len(rows), *field.row_shape)
            for field, start in zip(self.fields, self.starts, strict=True)
        }


def layout_of(fields: Sequence[FieldRecord]) -> RowLayout:
    """The layout that every reader and every row cache uses for these fields."""
    ordered = tuple(sorted(fields, key=lambda field: -np.dtype(field.dtype).itemsize))
    widest = np.dtype(ordered[0].dtype).itemsize
    *starts, used = itertools.accumulate((field.row_bytes for field in ordered), initial=0)
    return RowLayout(fields=ordered, starts=tuple(starts), row_bytes=-(-used // widest) * widest)
