"""`samples.parquet`: which sample has which number, key, hard target and content hash."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from softlab.errors import printable
from softlab.foreign_parquet import ForeignParquet
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import RecipeIndex
from softlab.keys import Keys
from softlab.parquet_pages import SLACK, check_claims

SAMPLES_NAME = "samples.parquet"
GROUP_ROWS = 1 << 20
"""In one row group, which is what is encoded at a time."""

BLOCK_ROWS = 1 << 16
"""Decoded at a time."""

KEYS_BYTES = 1 << 30
"""Of the keys decoded at a time, where each may be as long as a page: fewer rows are decoded then."""

KEY_BYTES = 1 << 10
"""What a key takes at most, give or take `SLACK`: a path has up to 4,096."""

ROW_BYTES = 8 + KEY_BYTES + 8 + CONTENT_HASH_BYTES + 8 + 8

MAX_ROWS = 1 << 40
"""Of all samples together: what adds up to more is no count."""

SCHEMA = pa.schema(
    [
        pa.field("sample", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("target", pa.int64()),
        pa.field("content_hash", pa.binary(CONTENT_HASH_BYTES), nullable=False),
    ]
)
RECIPE_INDEX = pa.field("number", pa.int64(), nullable=False)
"""Of a store that holds some of the samples that the teacher saw."""

ROWS = pa.field("rows", pa.int64(), nullable=False)
"""Of a store that has an output with units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleTable:
    """One entry a sample, in the order of the store."""

    keys: Sequence[str]
    targets_N: NDArray[np.int64] | None
    """-1 where unknown."""

    content_hashes: Sequence[bytes]
    recipe_N: RecipeIndex | None = None
    """Ascending; None where it is the index in the store."""

    rows_N: NDArray[np.int64] | None = None
    """How many rows each sample has in an output with units; None where no output has any."""

    def __len__(self) -> int:
        return len(self.keys)


def part_name(part: int) -> str:
    """The file of a part of a table that is too large for one."""
    return f"samples/part-{part:05d}.parquet"


def encode_samples(table: SampleTable) -> bytes:
    """The bytes of `samples.parquet`."""
    sink = BytesIO()  # gives its bytes away without a copy
    write_samples(sink, cut(table), has_recipe_indices=table.recipe_N is not None, has_rows=table.rows_N is not None)
    return sink.getvalue()


def cut(table: SampleTable) -> Iterator[SampleTable]:
    """A table as the stretches that are encoded at a time."""
    keys, hashes = Keys(table.keys), ContentHashes(table.content_hashes)
    for start in range(0, len(table), GROUP_ROWS):
        here = slice(start, min(start + GROUP_ROWS, len(table)))
        yield SampleTable(
            keys=keys[here],
            targets_N=None if table.targets_N is None else table.targets_N[here],
            content_hashes=hashes[here],
            recipe_N=None if table.recipe_N is None else RecipeIndex(table.recipe_N[here]),
            rows_N=None if table.rows_N is None else table.rows_N[here],
        )


def write_samples(
    sink: BinaryIO, tables: Iterable[SampleTable], *, has_recipe_indices: bool, has_rows: bool, start: int = 0
) -> None:
    """Write `samples.parquet`, or the part of it whose first sample is `start`, of a table that comes GROUP_ROWS
    samples at a time, all of which have, or lack, the columns that not each table has."""
    further = {RECIPE_INDEX: has_recipe_indices, ROWS: has_rows}
    schema = pa.schema([*SCHEMA, *(field for field, is_there in further.items() if is_there)])
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            assert start % GROUP_ROWS == 0, "only the last one is shorter"
            writer.write_table(_to_arrow(table, schema, start=start), row_group_size=GROUP_ROWS)
            start += len(table)
            pa.default_memory_pool().release_unused()  # Arrow would keep some 60 bytes a sample for later


def join_tables(tables: Sequence[SampleTable]) -> SampleTable:
    """Those of some samples, one behind the other. Raises ValueError where a column is missing in some of them, and
    unless recipe indices ascend."""
    first, *others = tables
    if not others:
        return first
    unknown = [np.full(len(each), -1) if each.targets_N is None else each.targets_N for each in tables]
    return SampleTable(
        keys=Keys.join(Keys(each.keys) for each in tables),
        targets_N=None if all(each.targets_N is None for each in tables) else np.concatenate(unknown),
        content_hashes=ContentHashes.from_bytes(
            np.concatenate([ContentHashes(each.content_hashes).bytes_N16 for each in tables])
        ),
        recipe_N=join_recipe([each.recipe_N for each in tables]),
        rows_N=_join_columns([each.rows_N for each in tables]),
    )


def join_recipe(parts: Sequence[RecipeIndex | None]) -> RecipeIndex | None:
    """`recipe_N` of a table by those of its parts; raises as `join_tables`."""
    recipe_N = _join_columns(parts)
    if recipe_N is not None:
        _check_ascending(recipe_N)
    return None if recipe_N is None else RecipeIndex(recipe_N)


def _join_columns(columns: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    found = [column for column in columns if column is not None]
    if found and len(found) < len(columns):
        raise ValueError("some of its parts have a column that others lack")
    return np.concatenate(found) if found else None


def _to_arrow(table: SampleTable, schema: Any, *, start: int) -> Any:
    targets_N = np.broadcast_to(np.int64(-1), len(table)) if table.targets_N is None else table.targets_N
    further = [column for column in (table.recipe_N, table.rows_N) if column is not None]
    arrays = [
        pa.array(np.arange(start, start + len(table), dtype=np.int64)),
        Keys(table.keys).to_arrow().cast(pa.string()),
        pa.array(targets_N, mask=targets_N < 0),
        _hashes_to_arrow(ContentHashes(table.content_hashes)),
        *(pa.array(column) for column in further),
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def decode_samples(data: bytes | mmap, *, num_samples: int) -> SampleTable:
    """The inverse of `encode_samples`. Raises ValueError for something that it can't have written of so many samples,
    before that takes memory."""
    file = ForeignParquet(data)
    names, longest = file.schema.names, check_table(file, data, num_samples=num_samples)
    targets, hashes = bytearray(), bytearray()
    for block in file.blocks("target", rows=BLOCK_ROWS):
        targets += block.fill_null(-1).to_numpy().data
    for block in file.blocks("content_hash", rows=BLOCK_ROWS):
        hashes += decode_hashes(block)
    targets_N = np.frombuffer(targets, dtype=np.int64)
    keys = Keys.join(decode_keys(file, longest=longest))
    pa.default_memory_pool().release_unused()  # Arrow would keep some 60 bytes a sample for later
    return SampleTable(
        keys=keys,
        targets_N=targets_N if (targets_N >= 0).any() else None,
        content_hashes=ContentHashes.from_bytes(hashes),
        recipe_N=decode_recipe_indices(file) if RECIPE_INDEX.name in names else None,
        rows_N=_decode_rows(file) if ROWS.name in names else None,
    )


def check_table(file: ForeignParquet, data: bytes | mmap, *, num_samples: int) -> int:
    """How many bytes the largest page of a table decodes to. Raises ValueError as `decode_samples`; `data` are the
    bytes of the file."""
    names = file.schema.names
    if not file.schema.equals(pa.schema([*SCHEMA, *(each for each in (RECIPE_INDEX, ROWS) if each.name in names)])):
        found = str(file.schema.remove_metadata()).replace("\n", ", ")
        raise ValueError(f"the columns are {printable(found)}")
    if file.num_rows != num_samples:
        raise ValueError(f"lists {file.num_rows:,} samples, the manifest says {num_samples:,}")
    return check_claims(data, file.metadata, row_bytes=ROW_BYTES, row_values=len(SCHEMA) + 2)


def has_content_hashes(data: bytes | mmap) -> bool:
    """Whether a table has any that is not zeros, by its statistics alone; one without statistics may have some."""
    metadata, column = ForeignParquet(data).metadata, SCHEMA.get_field_index("content_hash")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    found = [group.column(column).statistics for group in groups]
    return any(each is None or each.max != bytes(CONTENT_HASH_BYTES) for each in found)


def decode_keys(file: ForeignParquet, *, longest: int) -> Iterator[Keys]:
    """Some at a time, fewer where `longest` says that a page decodes to very much. A small page can name one long key
    for every row."""
    rows = min(BLOCK_ROWS, KEYS_BYTES // max(longest, 1) + 1)
    left = SLACK * KEY_BYTES * file.num_rows
    for block in file.blocks("key", rows=rows):
        left -= block.nbytes
        if left < 0:
            raise ValueError(f"its keys have more than {SLACK * KEY_BYTES:,} bytes each")
        yield Keys.from_arrow(block)


def _decode_rows(file: ForeignParquet) -> NDArray[np.int64]:
    rows_N = _decode_integers(file, ROWS.name)
    if len(rows_N) and not (rows_N.min() >= 0 and int(rows_N.max()) * len(rows_N) <= MAX_ROWS):
        raise ValueError(f"samples of {rows_N.min()} to {rows_N.max():,} rows")
    return rows_N


def decode_recipe_indices(file: ForeignParquet) -> RecipeIndex:
    """Raises ValueError unless they ascend."""
    recipe_N = _decode_integers(file, RECIPE_INDEX.name)
    _check_ascending(recipe_N)
    return RecipeIndex(recipe_N)


def _check_ascending(recipe_N: NDArray[np.int64]) -> None:
    if len(recipe_N) and (recipe_N[0] < 0 or (np.diff(recipe_N) <= 0).any()):
        raise ValueError("the recipe indices don't ascend")


def _decode_integers(file: ForeignParquet, column: str) -> NDArray[np.int64]:
    blocks = file.blocks(column, rows=BLOCK_ROWS)
    return np.concatenate([block.to_numpy() for block in blocks] or [np.empty(0, dtype=np.int64)])


def _hashes_to_arrow(hashes: ContentHashes) -> Any:
    buffer = pa.py_buffer(hashes.bytes_N16)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(CONTENT_HASH_BYTES), len(hashes), [None, buffer])


def decode_hashes(block: Any) -> memoryview:
    """Those of an Arrow array, one behind the other. Raises ValueError where one is null."""
    if block.null_count:
        raise ValueError(f"{block.null_count:,} of {len(block):,} content hashes are null")
    first = block.offset * CONTENT_HASH_BYTES
    return memoryview(block.buffers()[1])[first : first + len(block) * CONTENT_HASH_BYTES]
