"""A manifest as bytes: canonical JSON, decoded strictly, and nothing in it ever imported or executed.

A manifest also holds its own hash: the line `"self": "<64 hex digits>"`, BLAKE3 of the document without that line. So a
flipped bit, or a value that somebody edited, is found wherever the store lies. (Who forges a manifest can compute that
line anew; signatures are for that.)
"""

import msgspec
from msgspec import Struct

from softlab.errors import DamagedStore, InvalidOption, NotAStore, UnsupportedStore
from softlab.identity import digest_of
from softlab.manifest.checks import find_contradiction, find_plan_contradiction
from softlab.manifest.records import Manifest, StorePlan
from softlab.manifest.strict_json import decode_strictly
from softlab.manifest.value_types import Record
from softlab.manifest.version1 import Manifest1, from_version_1, to_version_1

FORMAT_VERSION = 3
"""The newest one that is read; see `sample_parts.version_for`."""

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 512 << 20
"""Half a million shards."""

SELF_KEY = b',\n "self": "'
"""How the line begins. Only keys of the document itself are indented by one space, and no string holds a line's end."""

SELF_BYTES = len(SELF_KEY) + 64 + len(b'"')


class _Header(Struct):
    format: str
    format_version: int


def encode(record: Record) -> bytes:
    """Canonical JSON: the same record is the same bytes, and so has the same digest. A document has its own hash in
    it."""
    if isinstance(record, Manifest) and record.format_version == 1:
        return _canonical(to_version_1(record))
    if "self_digest" not in record.__struct_fields__:
        return _canonical(record)
    blank = _canonical(msgspec.structs.replace(record, self_digest="0" * 64))
    at = blank.index(SELF_KEY)
    digest = digest_of(*_around_self(blank, at))
    return blank[:at] + SELF_KEY + digest.encode() + blank[at + SELF_BYTES - len(b'"') :]


def decode_manifest(data: bytes, *, where: str) -> tuple[Manifest, str]:
    """A checked manifest and its digest. Raises UnsupportedStore for a newer format, NotAStore for an invalid one,
    DamagedStore for one that is not as it was written."""
    try:
        manifest = _decode(data)
    except ValueError as error:
        _check_header(data, where=where)
        raise NotAStore(f"{where}: not a valid softlab manifest: {error}. Get the store again.") from error
    problem = find_contradiction(manifest)
    if problem is not None:
        raise NotAStore(f"{where}: not a valid softlab manifest: {problem}. Get the store again.")
    if manifest.format_version > 1:
        _check_self(data, where=where)
    return msgspec.structs.replace(manifest, self_digest=""), digest_of(data)


def _canonical(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=1) + b"\n"


def _decode(data: bytes) -> Manifest:
    """Of today's format, without a look at the header first: a manifest may have 100,000 shards."""
    try:
        manifest = decode_strictly(data, Manifest)
    except ValueError:
        if _version_of(data) != 1:
            raise
    else:
        if manifest.format_version != 1:
            return manifest
    return from_version_1(decode_strictly(data, Manifest1))


def has_own_hash(data: bytes) -> bool:
    return SELF_KEY in data


def is_as_written(data: bytes) -> bool:
    """Whether a document has the hash that it holds of itself."""
    at = data.find(SELF_KEY)
    if at < 0:
        return False
    return data[at : at + SELF_BYTES] == SELF_KEY + digest_of(*_around_self(data, at)).encode() + b'"'


def _around_self(data: bytes, at: int) -> tuple[memoryview, memoryview]:
    """What the hash is of: all but itself. Of 100,000 shards a copy would take a tenth of a second."""
    return memoryview(data)[:at], memoryview(data)[at + SELF_BYTES :]


def _check_self(data: bytes, *, where: str) -> None:
    if not is_as_written(data):
        raise DamagedStore(
            f"{where}: is not what was written: its bytes don't have the hash that it holds of itself. Get the store "
            f"again."
        )


def _check_header(data: bytes, *, where: str) -> None:
    """Better reasons for a manifest that can't be decoded, where its header can."""
    header = _header_of(data)
    if header is None:
        return
    if header.format != "softlab":
        raise NotAStore(f"{where}: is a manifest of {header.format!r}, not of softlab. Check the path.")
    if not 1 <= header.format_version <= FORMAT_VERSION:
        raise UnsupportedStore(
            f"{where}: format version {header.format_version}, but this softlab reads versions 1 to {FORMAT_VERSION}. "
            f"Upgrade softlab."
        )


def _version_of(data: bytes) -> int | None:
    header = _header_of(data)
    return None if header is None else header.format_version


def _header_of(data: bytes) -> _Header | None:
    try:
        return msgspec.json.decode(data, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def check_plan(plan: StorePlan) -> None:
    """Raises InvalidOption for a plan whose finished store could not be opened."""
    try:
        problem = find_plan_contradiction(msgspec.json.decode(encode(plan), type=StorePlan))
    except msgspec.ValidationError as error:
        problem = str(error)
    if problem is not None:
        raise InvalidOption(f"a store can't be described like this: {problem}. Change that option.")
