"""What a Parquet file claims that Arrow believes, read from its footer and its pages' headers before Arrow does.

Arrow allocates what a page's header asks for, so that 33 KB of a file could claim a GiB. And it ends the process where
a footer counts other levels than its schema has. Both are Thrift structs in the compact protocol, of which only what
is needed is read here: numbers, bytes, lists and structs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Any

SLACK, PAGE_SLACK_BYTES = 4, 256
"""Times what rows take, and besides for each page, that pages may decode to: Parquet has no integers of less than 4
bytes, and tells where lists begin."""

VALUE_BYTES = 8
"""Of a number as Arrow holds it: runs of the same one take no more bytes in a page than one does."""

MAX_DEPTH = 8
STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, STRUCT = 0, 1, 2, 3, 7, 8, 9, 12
INTEGERS = (4, 5, 6)

DECODED_BYTES, ENCODED_BYTES = 2, 3
"""Fields of a header."""

ROW_GROUPS, COLUMNS, COLUMN_METADATA, SIZE_STATISTICS = 4, 1, 3, 16
"""Fields on the way from a file's footer to what it counts of a column's levels."""

REPETITION_LEVELS, DEFINITION_LEVELS = 2, 3
MAGIC, TAIL_BYTES = b"PAR1", 8
"""At the very end of a file: the size of its footer, and this."""

KINDS = (5, 7, 8)
"""Fields of a header that say what kind of page it is: data, a dictionary, data in the newer form. The first field of
each is how many values it has."""

Struct = dict[int, object]


@dataclass(frozen=True, slots=True)
class Page:
    """As its header says."""

    decoded_bytes: int
    num_values: int


def check_claims(data: bytes | mmap, metadata: Any, *, row_bytes: int, row_values: int) -> int:
    """How many bytes the largest page says it decodes to. Raises ValueError where all of them say much more than the
    rows of Arrow's `metadata` take."""
    num_rows = metadata.num_rows
    found = [page for start, stop in _column_extents(metadata) for page in pages(data, start=start, stop=stop)]
    claimed, most = sum(page.decoded_bytes for page in found), num_rows * row_bytes
    if claimed > SLACK * most + PAGE_SLACK_BYTES * len(found):
        raise ValueError(f"pages that say they decode to {claimed:,} bytes, where rows take {most:,}")
    num_values = num_rows * row_values
    if sum(page.num_values for page in found) > SLACK * num_values:
        raise ValueError(f"pages of more values than {num_values:,}")
    return max((page.decoded_bytes for page in found), default=0)


def claimed_bytes(data: bytes | mmap, metadata: Any) -> int:
    """What all pages say they decode to, values that are said to be alike included. Raises ValueError as `pages`."""
    found = [page for start, stop in _column_extents(metadata) for page in pages(data, start=start, stop=stop)]
    return sum(max(page.decoded_bytes, VALUE_BYTES * page.num_values) for page in found)


def check_level_counts(footer: bytes, schema: Any) -> None:
    """Raises ValueError unless a footer counts as many levels of each column as its schema has: when Arrow finds that,
    it ends the process."""
    columns = [schema.column(number) for number in range(len(schema))]
    most = [(column.max_repetition_level, column.max_definition_level) for column in columns]
    for group in _list(_read_struct(footer, 0)[0], ROW_GROUPS):
        chunks = _list(group, COLUMNS)
        if len(chunks) != len(most):
            raise ValueError(f"a row group of {len(chunks)} columns instead of {len(most)}")
        for chunk, (repetition, definition) in zip(chunks, most, strict=True):
            counted = _struct(_struct(chunk, COLUMN_METADATA), SIZE_STATISTICS)
            for field, level in ((REPETITION_LEVELS, repetition), (DEFINITION_LEVELS, definition)):
                if len(_list(counted, field)) not in (0, level + 1):
                    raise ValueError(f"counts {len(_list(counted, field))} levels of a column that has {level + 1}")


def footer_bytes(data: bytes | mmap) -> bytes:
    """Of the end of a file."""
    size = int.from_bytes(data[-TAIL_BYTES:-4], "little")
    if data[-4:] != MAGIC or size > len(data) - TAIL_BYTES:
        raise ValueError("no footer of a Parquet file")
    return data[len(data) - TAIL_BYTES - size : len(data) - TAIL_BYTES]


def _struct(found: object, field: int) -> object:
    """A struct in a struct; an empty one where there is none."""
    return found.get(field, {}) if isinstance(found, dict) else {}


def _list(found: object, field: int) -> list[object]:
    listed = _struct(found, field)
    return listed if isinstance(listed, list) else []


def pages(data: bytes | mmap, *, start: int, stop: int) -> Iterator[Page]:
    """Those between two positions in a file. Raises ValueError for bytes that aren't pages one behind the other."""
    if start < 0:
        raise ValueError(f"pages are said to begin at {start}")
    while start < stop:
        header, start = _read_struct(data, start)
        size = _number(header, ENCODED_BYTES)
        if size > stop - start:
            raise ValueError(f"a page is said to have {size:,} bytes where {stop - start:,} are left")
        start += size
        values = [_number(kind, 1) for field in KINDS if isinstance(kind := header.get(field), dict)]
        if len(values) != 1:
            raise ValueError("a page is of no kind that is known")
        yield Page(_number(header, DECODED_BYTES), values[0])


def _column_extents(metadata: Any) -> Iterator[tuple[int, int]]:
    """Where the pages of each column of each row group begin and end."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            offsets = [column.data_page_offset]
            offsets += [column.dictionary_page_offset] if column.has_dictionary_page else []
            yield min(offsets), min(offsets) + column.total_compressed_size


def _number(struct: Struct, field: int) -> int:
    found = struct.get(field)
    if not isinstance(found, int) or found < 0:
        raise ValueError("a page without its size")
    return found


def _read_struct(data: bytes | mmap, at: int, *, depth: int = 0) -> tuple[Struct, int]:
    """By field number, and the position behind it."""
    if depth == MAX_DEPTH:
        raise ValueError("a page's header is nested too deep")
    found: Struct = {}
    field = 0
    while True:
        head, at = _byte(data, at)
        kind, step = head & 15, head >> 4
        if kind == STOP:
            return found, at
        if step:
            field += step
        else:
            number, at = _varint(data, at)
            field = _zigzag(number)
        found[field], at = _read_value(data, at, kind, depth=depth)


def _read_value(data: bytes | mmap, at: int, kind: int, *, depth: int) -> tuple[object, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind in INTEGERS:
        number, at = _varint(data, at)
        return _zigzag(number), at
    if kind == STRUCT:
        return _read_struct(data, at, depth=depth + 1)
    if kind == LIST:
        return _read_list(data, at, depth=depth + 1)
    if kind == BINARY:
        size, at = _varint(data, at)
    elif kind in (BYTE, DOUBLE):
        size = 1 if kind == BYTE else 8
    else:
        raise ValueError(f"a page's header has a value of type {kind}")
    return data[at : at + size], at + size


def _read_list(data: bytes | mmap, at: int, *, depth: int) -> tuple[list[object], int]:
    head, at = _byte(data, at)
    kind, size = head & 15, head >> 4
    if size == 15:
        size, at = _varint(data, at)
    if depth == MAX_DEPTH or size > len(data) - at:
        raise ValueError("a list that can't be")
    found: list[object] = []
    for _ in range(size):
        if kind in (TRUE, FALSE):
            value, at = _byte(data, at)
        else:
            value, at = _read_value(data, at, kind, depth=depth)  # type: ignore[assignment]
        found.append(value)
    return found, at


def _varint(data: bytes | mmap, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        byte, at = _byte(data, at)
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise ValueError("a number in a page's header has no end")


def _zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def _byte(data: bytes | mmap, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise ValueError("a page's header is cut off")
    return data[at], at + 1
