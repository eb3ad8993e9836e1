"""Packed rows: the fields of one group side by side, so that a row is one stretch of memory and a batch one gather."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlab.manifest import FieldRecord
from softlab.store.format import Array

Rows = NDArray[np.uint8]
"""[rows, row_bytes]"""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where each field lies in a row. Wider items come first, and rows are padded to them, so that all are aligned."""

    fields: tuple[FieldRecord, ...]
    starts: tuple[int, ...]
    """Of each field's bytes in a row."""

    row_bytes: int

    def pack(self, arrays: Mapping[str, Array]) -> Rows:
        """One shard's arrays as packed rows."""
        count = len(arrays[self.fields[0].name])
        rows = np.zeros((count, self.row_bytes), dtype=np.uint8)
        for field, start in zip(self.fields, self.starts, strict=True):
            flat = np.ascontiguousarray(arrays[field.name]).reshape(count, -1)
            rows[:, start : start + field.row_bytes] = flat.view(np.uint8)
        return rows

    def unpack(self, rows: Rows) -> dict[str, Array]:
        """Views into packed rows, by field name."""
        return {
            field.name: rows[:, start : start + field.row_bytes].view(field.dtype).reshape(len(rows), *field.row_shape)
            for field, start in zip(self.fields, self.starts, strict=True)
        }


def layout_of(fields: Sequence[FieldRecord]) -> RowLayout:
    """The layout that every reader and every row cache uses for these fields."""
    ordered = tuple(sorted(fields, key=lambda field: -np.dtype(field.dtype).itemsize))
    widest = np.dtype(ordered[0].dtype).itemsize
    *starts, used = itertools.accumulate((field.row_bytes for field in ordered), initial=0)
    return RowLayout(fields=ordered, starts=tuple(starts), row_bytes=-(-used // widest) * widest)
