"""What a manifest says of arrays, files and shards."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from softlab.manifest.statistics import Statistics, add_up
from softlab.manifest.value_types import Count, FieldName, FileDigest, Positive, Record, StoredPath
from softlab.shards import Dtype, row_bytes


class FieldRecord(Record, frozen=True, kw_only=True):
    """One array: what it holds for each row, and how many rows make a chunk."""

    name: FieldName
    dtype: Dtype
    row_shape: Annotated[tuple[Positive, ...], Meta(max_length=4)]
    chunk_rows: Positive

    @property
    def group(self) -> str:
        """What is read together: the arrays of one output that have the same axis."""
        return self.name if self.name.startswith("features/") else self.name.rpartition("/")[0]

    @property
    def short_name(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.dtype, self.row_shape)


class StorageRecord(Record, frozen=True, kw_only=True):
    format: Literal["zarr", "parquet"]
    shard_rows: Positive
    """Samples in a shard, and so rows of an output without units."""

    shard_units: Positive | None = None
    """Rows that a shard has room for in an output with units; what its samples don't need is fill. None where no output
    has units."""

    fields: tuple[FieldRecord, ...]

    def fields_of(self, group: str) -> tuple[FieldRecord, ...]:
        return tuple(field for field in self.fields if field.group == group)


class FileRecord(Record, frozen=True, kw_only=True, gc=False):
    """One of hundreds of thousands in a large store: it holds no cycles, so the collector need not follow it."""

    path: StoredPath
    bytes: Count
    blake3: FileDigest


class PrecisionRecord(Record, frozen=True, kw_only=True, gc=False):
    """Samples start..stop-1, which were run in another precision than `teacher.precision`."""

    start: Count
    stop: Positive
    precision: str


class TokensRecord(Record, frozen=True, kw_only=True, gc=False):
    """How many tokens some texts have for the teacher's tokenizer."""

    read: Count
    """By the teacher, special ones included; what fills up a batch is none."""

    cut_off: Count
    """Beyond the teacher's input."""

    def __add__(self, other: "TokensRecord") -> "TokensRecord":
        return TokensRecord(read=self.read + other.read, cut_off=self.cut_off + other.cut_off)


class ShardRecord(Record, frozen=True, kw_only=True, gc=False):
    view: Count
    start: Count
    stop: Positive
    files: tuple[FileRecord, ...]
    statistics: dict[str, Statistics]
    """By output, of kind `classes`."""

    precisions: tuple[PrecisionRecord, ...] | UnsetType = UNSET
    """Its samples of another precision than `teacher.precision`, where there are such: those that overflowed in half
    precision and were run again, or that were there before a dump went on in float32."""

    cut_off: Count | UnsetType = UNSET
    """How many of its samples were longer than the teacher's input, which didn't see their end. Nothing is said where
    samples have no length, and of a store that was pulled in part."""

    tokens: TokensRecord | UnsetType = UNSET
    """Of its samples, where `cut_off` is said and these are made of tokens."""


def add_up_by_output(shards: Sequence[ShardRecord]) -> dict[str, Statistics]:
    """The same for each output."""
    names = shards[0].statistics if shards else {}
    return {name: add_up([shard.statistics[name] for shard in shards]) for name in names}
