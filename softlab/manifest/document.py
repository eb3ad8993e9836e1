"""A manifest as bytes: canonical JSON, decoded strictly, and nothing in it ever imported or executed."""

from typing import Any

import msgspec
from msgspec import Struct

from softlab.errors import InvalidOption, NotAStore, UnsupportedStore
from softlab.identity import digest_of
from softlab.manifest.checks import find_contradiction, find_plan_contradiction
from softlab.manifest.records import Manifest, Record, StorePlan
from softlab.manifest.strict_json import decode_strictly

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 512 << 20
"""Half a million shards."""


class _Header(Struct):
    format: str
    format_version: int


def encode(record: Record) -> bytes:
    """Canonical JSON: the same record is the same bytes, and so has the same digest."""
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=1) + b"\n"


def decode_manifest(data: bytes, *, where: str) -> tuple[Manifest, str]:
    """A checked manifest and its digest. Raises UnsupportedStore for a newer format, NotAStore for an invalid one."""
    try:
        manifest = decode_strictly(data, Manifest)
    except ValueError as error:
        _check_header(data, where=where)
        raise NotAStore(f"{where}: not a valid softlab manifest: {error}. Get the store again.") from error
    problem = find_contradiction(manifest)
    if problem is not None:
        raise NotAStore(f"{where}: not a valid softlab manifest: {problem}. Get the store again.")
    return manifest, digest_of(data)


def _check_header(data: bytes, *, where: str) -> None:
    """Better reasons for a manifest that can't be decoded, where its header can."""
    try:
        header = msgspec.json.decode(data, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    if header.format != "softlab":
        raise NotAStore(f"{where}: is a manifest of {header.format!r}, not of softlab. Check the path.")
    if header.format_version != FORMAT_VERSION:
        raise UnsupportedStore(
            f"{where}: format version {header.format_version}, but this softlab reads version {FORMAT_VERSION}. "
            f"Upgrade softlab."
        )


def check_plan(plan: StorePlan) -> None:
    """Raises InvalidOption for a plan whose finished store could not be opened."""
    try:
        problem = find_plan_contradiction(msgspec.json.decode(encode(plan), type=StorePlan))
    except msgspec.ValidationError as error:
        problem = str(error)
    if problem is not None:
        raise InvalidOption(f"a store can't be described like this: {problem}. Change that option.")


def differences(found: dict[str, Any], expected: dict[str, Any], *, prefix: str = "") -> list[str]:
    """`key: found, now expected` for each leaf in which two trees of plain values differ."""
    lines = []
    for key in sorted(found.keys() | expected.keys()):
        ours, theirs = expected.get(key), found.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            lines += differences(theirs, ours, prefix=f"{prefix}{key}.")
        elif ours != theirs:
            lines.append(f"{prefix}{key} was {theirs!r}, is now {ours!r}")
    return lines
