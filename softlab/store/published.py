"""Where the files of a published store lie.

    ROOT/catalog.json                     what is published below ROOT, for those who can't list; index.html beside it
    ROOT/NAME/versions/3.json             a version: which store it is, from when, under which licence; never changes
    ROOT/NAME/versions/3.sig              its signature
    ROOT/NAME/tags/latest.json            a tag: which version it means now
    ROOT/NAME/stores/<digest>/            the store itself, the same tree as on a disk

A store lies under its own digest, so that two publications can't mix: whatever lies there is of one content.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from softlab.errors import AccessDenied, DamagedStore, NotAStore, ObjectMissing, UnsupportedStore
from softlab.manifest.strict_json import decode_strictly
from softlab.manifest.versions import MAX_RECORD_BYTES, CatalogRecord, TagRecord, VersionRecord
from softlab.remote.address import Address, parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Place, Remote

Kind = TypeVar("Kind", VersionRecord, TagRecord, CatalogRecord)

VERSION_NAME = "version.json"
SIGNATURE_NAME = "signature.json"
"""Beside the manifest of a pulled store: its version record and the signature; the latter also of a store signed where
it lies."""

LEASE_NAMES = ("push.json", "gc.json")
"""Beside the manifest of a published store while somebody is at work on it."""

PROBE = re.compile(r"push-[0-9a-f]{32}\.json")
"""Objects by which a push tests the server. Each push has one of its own, so that no other push removes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """The place of a store's files."""

    place: Place
    name: str
    """For messages: of a published store what was asked for, as its place has a digest for a name."""

    version: VersionRecord | None = None
    """Where it was asked for by name and version."""


def locate(where: str | Place) -> Located:
    """Raises InvalidOption for something that is no address, ObjectMissing for a version that isn't published, and what
    a remote raises."""
    if isinstance(where, Remote):
        return Located(place=where, name=str(where))
    address = parse_address(where)
    if address.name is None:
        place = Path(where) if address.is_local else connect(address)
        return Located(place=place, name=str(place))
    remote = connect(address)
    record = find_version(remote, address)
    tree = store_path(record.name, record.digest)
    place = Path(address.root) / tree if address.is_local else remote.within(tree)
    return Located(place=place, name=str(where), version=record)


def find_version(remote: Remote, address: Address) -> VersionRecord:
    """The record of a version given by number or tag. Raises ObjectMissing where it isn't published."""
    assert address.name is not None, "a published store has a name"
    assert address.version is not None, "and a version"
    if address.version.isdigit():
        return read_version(remote, address.name, int(address.version))
    return read_version(remote, address.name, read_tag(remote, address.name, address.version).version)


def read_version(remote: Remote, name: str, version: int) -> VersionRecord:
    """Raises ObjectMissing where it isn't published, DamagedStore for a record of something else."""
    path = version_path(name, version)
    try:
        record = decode_record(remote.read(path, max_bytes=MAX_RECORD_BYTES), VersionRecord, where=remote / path)
    except ObjectMissing:
        raise ObjectMissing(
            f"{remote / name}@{version}: is not published. `softlab catalog {remote}` lists what is."
        ) from None
    if (record.name, record.version) != (name, version):
        raise DamagedStore(
            f"{remote / path}: is the record of {record.name}@{record.version}, not of {name}@{version}. Don't use it; "
            f"tell whoever published it."
        )
    return record


def read_tag(remote: Remote, name: str, tag: str) -> TagRecord:
    """Raises as `read_version`."""
    path = tag_path(name, tag)
    try:
        record = decode_record(remote.read(path, max_bytes=MAX_RECORD_BYTES), TagRecord, where=remote / path)
    except ObjectMissing:
        raise ObjectMissing(
            f"{remote / name}@{tag}: nothing has this tag. `softlab catalog {remote}` lists what is published."
        ) from None
    if (record.name, record.tag) != (name, tag):
        raise DamagedStore(f"{remote / path}: is a tag of {record.name}@{record.tag}. Tell whoever published it.")
    return record


def read_if_there(remote: Remote, path: str) -> bytes | None:
    """The bytes of a record, signature or card beside a manifest that could be read; None where there is none.

    To those who may read but not list, S3 answers "access denied" for an object that doesn't exist.
    """
    try:
        return remote.read(path, max_bytes=MAX_RECORD_BYTES)
    except (ObjectMissing, AccessDenied):
        return None


def decode_record(data: bytes, kind: type[Kind], *, where: str) -> Kind:
    """Raises UnsupportedStore for a newer format, NotAStore for something that is no such record."""
    try:
        return decode_strictly(data, kind)
    except ValueError as error:
        if _format_version(data) > 1:
            raise UnsupportedStore(f"{where}: is in a newer format than this softlab reads. Upgrade softlab.") from None
        raise NotAStore(f"{where}: not a valid record of a publication: {error}. Check the address.") from error


def _format_version(data: bytes) -> int:
    """0 where there is none."""
    try:
        return msgspec.json.decode(data, type=_Header).format_version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0


def version_path(name: str, version: int) -> str:
    return f"{name}/versions/{version}.json"


def signature_path(name: str, version: int) -> str:
    return f"{name}/versions/{version}.sig"


def tag_path(name: str, tag: str) -> str:
    return f"{name}/tags/{tag}.json"


def store_path(name: str, digest: str) -> str:
    return f"{name}/stores/{digest}"


class _Header(msgspec.Struct):
    format_version: int = 0
