"""What a store format has to do: turn one shard's arrays into files' bytes, and back.

A format never touches a disk. Writing, hashing, resuming and verifying are therefore the same for all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from softlab.manifest import (
    ENTRIES,
    SAMPLES,
    ClassesRecord,
    FieldRecord,
    OutputRecord,
    SampledRecord,
    StorePlan,
    TokensReadRecord,
)
from softlab.shards import Shard

FormatName = Literal["zarr", "parquet"]
Array = NDArray[Any]
Arrays = Mapping[str, Array]
"""By field name, such as `outputs/logits/class_ids`; each [rows of the shard, *row_shape]."""


class StoreFormat(Protocol):
    """Stateless; one instance serves every store."""

    def layout_files(self, plan: StorePlan) -> dict[str, bytes]:
        """Files that belong to the format and to no shard, by path."""

    def path_of(self, field: FieldRecord, shard: Shard) -> str:
        """The file that holds one field of one shard; several fields may share one."""

    def encode(
        self, plan: StorePlan, shard: Shard, arrays: Arrays, *, rows_S: NDArray[np.int64] | None = None
    ) -> dict[str, bytes]:
        """All files of one shard, by path. `rows_S` says how many rows each of its samples has in an output with
        units."""

    def decode(
        self, plan: StorePlan, shard: Shard, fields: Sequence[FieldRecord], files: Mapping[str, bytes], out: Arrays
    ) -> None:
        """Fill arrays of the right shapes, by field name, with some fields of one shard, from the bytes of the files
        that hold them; how many rows there are is the arrays' to tell. Raises ValueError, LookupError, OSError or
        RuntimeError for files that hold something else."""


def decoding_facts(output: OutputRecord) -> dict[str, Any]:
    """What another reader needs to turn what is stored into logits or values; nothing where those are stored as they
    are, in float16."""
    if isinstance(output, ClassesRecord):
        return {
            "temperatures": list(output.selection.temperatures),
            "num_classes": output.label_space.num_classes,
            "head": output.head,
            "coding": output.coding.logits,
            "gap_step": output.coding.gap_step,
        } | ({"resolution": output.selection.resolution} if isinstance(output.selection, SampledRecord) else {})
    if isinstance(output, TokensReadRecord) or output.coding == "float16":
        return {}
    return {"coding": output.coding}


def empty_arrays(fields: Sequence[FieldRecord], *, num_rows: int) -> dict[str, Array]:
    """For the rows of a shard to be decoded into, by field name."""
    return {field.name: np.empty((num_rows, *field.row_shape), dtype=field.dtype) for field in fields}


def counts_in(
    plan: StorePlan, group: str, arrays: Arrays, *, rows_S: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    """How many rows each sample of a shard has in the arrays of a group; None where each has one. `rows_S` is that of
    outputs with units."""
    axis = plan.axis_of(group)
    if axis == "entry":
        return arrays[entries_of(plan, group)].astype(np.int64)
    return rows_S if axis == "unit" else None


def entries_of(plan: StorePlan, group: str) -> str:
    """The array that tells how many entries each sample has, for the groups of an output that has some."""
    return f"{plan.group_of(plan.output_of_group(group))}{SAMPLES}/{ENTRIES.strip('/')}"


def check_arrays(plan: StorePlan, shard: Shard, arrays: Arrays, *, rows_S: NDArray[np.int64] | None) -> None:
    """An invariant of ours: a shard is written with exactly the arrays, shapes and dtypes that its plan names. In
    outputs with units its samples have `rows_S` rows."""
    assert len(arrays) == len(plan.storage.fields), f"shard {shard.name}: arrays {sorted(arrays)}"
    for group in dict.fromkeys(field.group for field in plan.storage.fields):
        assert rows_S is not None or plan.axis_of(group) != "unit", "an output with units has rows of its own"
        counts_S = counts_in(plan, group, arrays, rows_S=rows_S)
        fields = plan.storage.fields_of(group)
        own = {field.name: arrays[field.name] for field in fields if field.name in arrays}
        problem = find_wrong_arrays(fields, own, num_rows=shard.num_rows if counts_S is None else int(counts_S.sum()))
        assert problem is None, f"shard {shard.name}: {problem}"


def find_wrong_arrays(fields: Sequence[FieldRecord], arrays: Arrays, *, num_rows: int) -> str | None:
    """How a shard's arrays differ from what their fields say, if they do."""
    found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    expected = {field.name: (field.dtype, (num_rows, *field.row_shape)) for field in fields}
    return None if found == expected else f"{found} instead of {expected}"
