"""What the pages of a Parquet file claim to decode to, read from their headers before anything is decoded.

Arrow allocates what a page's header asks for, so that 33 KB of a file could claim a GiB. A header is a Thrift struct in
the compact protocol, of which only what pages need is read here: numbers, bytes and structs in structs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SLACK, PAGE_SLACK_BYTES = 4, 256
"""Times what rows take, and besides for each page, that pages may decode to: Parquet has no integers of less than 4
bytes, and tells where lists begin."""

MAX_DEPTH = 4
STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, STRUCT = 0, 1, 2, 3, 7, 8, 12
INTEGERS = (4, 5, 6)

DECODED_BYTES, ENCODED_BYTES = 2, 3
"""Fields of a header."""

KINDS = (5, 7, 8)
"""Fields of a header that say what kind of page it is: data, a dictionary, data in the newer form. The first field of
each is how many values it has."""

Struct = dict[int, object]


@dataclass(frozen=True, slots=True)
class Page:
    """As its header says."""

    decoded_bytes: int
    num_values: int


def check_claims(data: bytes, metadata: Any, *, row_bytes: int, row_values: int) -> int:
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


def pages(data: bytes, *, start: int, stop: int) -> Iterator[Page]:
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


def _read_struct(data: bytes, at: int, *, depth: int = 0) -> tuple[Struct, int]:
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


def _read_value(data: bytes, at: int, kind: int, *, depth: int) -> tuple[object, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind in INTEGERS:
        number, at = _varint(data, at)
        return _zigzag(number), at
    if kind == STRUCT:
        return _read_struct(data, at, depth=depth + 1)
    if kind == BINARY:
        size, at = _varint(data, at)
    elif kind in (BYTE, DOUBLE):
        size = 1 if kind == BYTE else 8
    else:
        raise ValueError(f"a page's header has a value of type {kind}")
    return data[at : at + size], at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
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


def _byte(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise ValueError("a page's header is cut off")
    return data[at], at + 1
