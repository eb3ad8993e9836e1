"""What the pages of a Parquet file claim to decode to, read from their headers before anything is decoded.

Arrow allocates what a page's header asks for, so that 33 KB of a file could claim a GiB. A header is a Thrift struct in
the compact protocol, of which only what pages need is read here: numbers, bytes and structs in structs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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
