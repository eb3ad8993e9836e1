"""Which arrays a store is to have, and how these are cut into shards and chunks."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from softlab.labels.coding import LabelCoding
from softlab.labels.sampled_arrays import ENTRY_ARRAYS, ROW_ARRAYS, SAMPLE_ARRAYS, token_dtype
from softlab.labels.sampled_coding import SampledCoding
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.values_coding import arrays_of_values
from softlab.manifest import ENTRIES, SAMPLES, FieldRecord, StorageRecord, TokensReadRecord
from softlab.models.outputs import WantedOutput
from softlab.shards import (
    MAX_CHUNK_ROWS,
    MAX_SHARD_ROWS,
    check_shard_rows,
    choose_chunk_rows,
    choose_shard_rows,
    row_bytes,
)
from softlab.teacher.dumped_views import Settled
from softlab.teacher.forward import TeacherOutput
from softlab.teacher.options import DumpOptions

UNIT_DTYPE = "uint32"

LONG_CHUNK_ROWS = 1 << 16
"""Of arrays with a byte or two a row: shorter chunks compress worse."""

Shapes = dict[str, tuple[Any, tuple[int, ...]]]
"""By the short name of an array: its dtype, and the shape of a row."""


def coding_for(options: DumpOptions, labels: SoftLabels) -> LabelCoding:
    """How the labels of one output become arrays, but for the step of the uint8 coding."""
    return LabelCoding(
        coding=options.coding,
        num_classes=labels.num_classes,
        temperatures=labels.temperatures,
        head=labels.head,
        has_valid=options.has_valid,
        masked=options.masked,
    )


def plan_storage(
    options: DumpOptions,
    example: TeacherOutput,
    *,
    num_samples: int,
    read: TokensReadRecord | None = None,
    most_units: int | None = None,
    most_rows: int = MAX_SHARD_ROWS,
    settled: Settled | None = None,
) -> StorageRecord:
    """Which arrays a store has, and how they are cut into shards and chunks. Where a shard's room for units is settled,
    `most_units` need not be known."""
    settled = settled or Settled()
    arrays = [array for wanted in options.wanted_outputs for array in _arrays_of(wanted, options, example)]
    arrays += [] if read is None else _arrays_read(read)
    units, shard_rows = most_units or 1, settled.shard_rows if options.shard_rows is None else options.shard_rows
    if shard_rows is None:
        per_sample = sum(array.row_bytes * array.rows_of_sample(units) for array in arrays)
        shard_rows = min(choose_shard_rows(per_sample, num_samples=num_samples), most_rows)
    largest = max(array.row_bytes * array.rows_of_sample(units) for array in arrays)
    check_shard_rows(shard_rows, largest_row_bytes=largest)
    shard_units = None
    if example.with_units:
        shard_units = settled.shard_units or 1 << (shard_rows * units - 1).bit_length()
    fields = tuple(
        FieldRecord(
            name=array.name,
            dtype=array.dtype,
            row_shape=array.row_shape,
            chunk_rows=choose_chunk_rows(
                array.row_bytes,
                shard_rows=(shard_units if shard_units and array.is_of_units else shard_rows) * array.entries,
                most_rows=array.most_chunk_rows,
            ),
        )
        for array in arrays
    )
    return StorageRecord(format=options.format, shard_rows=shard_rows, shard_units=shard_units, fields=fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Array:
    name: str
    dtype: Any
    row_shape: tuple[int, ...]
    is_of_units: bool
    """Whether it has a row for each unit of a sample."""

    entries: int = 1
    """Rows that it has for each of these at most."""

    most_chunk_rows: int = MAX_CHUNK_ROWS

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.dtype, self.row_shape)

    def rows_of_sample(self, units: int) -> int:
        """At most, of a sample with so many units."""
        return self.entries * (units if self.is_of_units else 1)


def _arrays_of(wanted: WantedOutput, options: DumpOptions, example: TeacherOutput) -> list[_Array]:
    has_units, prefix = wanted.name in example.with_units, f"outputs/{wanted.name}/"
    if wanted.kind == "classes" and example.labels[wanted.name].is_sampled:
        return _sampled_arrays(example.labels[wanted.name], prefix=prefix, has_units=has_units)
    shapes = _shapes_of(wanted, options, example) | ({"unit": (UNIT_DTYPE, ())} if has_units else {})
    return [
        _Array(name=f"{prefix}{name}", dtype=dtype, row_shape=shape, is_of_units=has_units)
        for name, (dtype, shape) in shapes.items()
    ]


def _shapes_of(wanted: WantedOutput, options: DumpOptions, example: TeacherOutput) -> Shapes:
    if wanted.kind == "values":
        return arrays_of_values(options.values_coding, tuple(example.values[wanted.name].shape[1:]))
    labels = example.labels[wanted.name]
    coding = coding_for(options, labels)
    shapes: Shapes = {
        "class_ids": (coding.class_id_dtype, (labels.k,)),
        "logits": (coding.logit_dtype, (labels.k,)),
        "max_logit": (coding.float_dtype, ()),
        "log_tail": (coding.float_dtype, (len(labels.temperatures),)),
    }
    shapes |= {"valid": (coding.valid_dtype, ())} if options.has_valid else {}
    return shapes | ({"valid_bits": ("uint8", (coding.valid_bytes,))} if options.masked else {})


def _arrays_read(read: TokensReadRecord) -> list[_Array]:
    group, dtype = f"outputs/{read.name}", token_dtype(read.vocabulary)
    make = partial(_Array, row_shape=(), is_of_units=False, most_chunk_rows=LONG_CHUNK_ROWS)
    counts = [make(name=f"{group}{SAMPLES}/{name}", dtype=dtype) for name, dtype in SAMPLE_ARRAYS.items()]
    return [*counts, make(name=f"{group}{ENTRIES}/token_ids", dtype=dtype, entries=read.most)]


def _sampled_arrays(labels: SoftLabels, *, prefix: str, has_units: bool) -> list[_Array]:
    """Those of the rows, of the counts of their entries, and of these, each group behind the other."""
    coding = SampledCoding(num_classes=labels.num_classes, resolution=labels.k - 1)
    of_rows: dict[str, str] = ({"unit": UNIT_DTYPE} if has_units else {}) | dict(ROW_ARRAYS)
    make = partial(_Array, row_shape=(), most_chunk_rows=LONG_CHUNK_ROWS)
    group = prefix.rstrip("/")
    return [
        *(make(name=f"{prefix}{name}", dtype=dtype, is_of_units=has_units) for name, dtype in of_rows.items()),
        *(
            make(name=f"{group}{SAMPLES}/{name}", dtype=dtype, is_of_units=False)
            for name, dtype in SAMPLE_ARRAYS.items()
        ),
        *(
            make(
                name=f"{group}{ENTRIES}/{name}",
                dtype=dtype or coding.class_id_dtype,
                is_of_units=has_units,
                entries=labels.k,
            )
            for name, dtype in ENTRY_ARRAYS.items()
        ),
    ]
