"""What is published below a root.

It is listed from the version records. `catalog.json` holds the same list for a web server, where nothing can be listed.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from softlab.amounts import format_count
from softlab.errors import NotAStore, ObjectMissing, SoftlabWarning, StoreError
from softlab.identity import keys_fingerprint, source_fingerprint
from softlab.manifest import encode
from softlab.manifest.versions import MAX_CATALOG_BYTES, CatalogRecord, TagRecord, VersionRecord
from softlab.remote.address import NAME
from softlab.remote.attempts import attempts
from softlab.remote.connect import connect
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import Remote, Tagged, TooLarge
from softlab.sharing.catalogue.root import check_is_catalogue, parse_catalogue
from softlab.sharing.catalogue.versions import list_tags, list_versions, this_moment
from softlab.sources.source import Source
from softlab.store.published import decode_record, read_tag, read_version

CATALOG_NAME = "catalog.json"
JOBS = 16

Key = TypeVar("Key")
Record = TypeVar("Record", VersionRecord, TagRecord)


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """The versions and tags that are published below a root."""

    root: str
    versions: tuple[VersionRecord, ...]
    """By name, then number."""

    tags: tuple[TagRecord, ...]
    updated: str | None = None
    """When its `catalog.json` was written, where this was read from that; None where the records were listed."""

    def __repr__(self) -> str:
        versions, names = format_count(len(self.versions), "version"), {record.name for record in self.versions}
        return f"Catalog({self.root}, {versions} of {format_count(len(names), 'store')})"

    def tags_of(self, record: VersionRecord) -> list[str]:
        return [tag.tag for tag in self.tags if (tag.name, tag.version) == (record.name, record.version)]

    def search(self, text: str) -> list[VersionRecord]:
        """The versions that have every word of the text in their name@version, data set, teacher, format, licence,
        digest, features or tags."""
        words = text.casefold().split()
        return [each for each in self.versions if all(word in self._text_of(each) for word in words)]

    def _text_of(self, record: VersionRecord) -> str:
        summary = record.summary
        address = f"{record.name}@{record.version}"
        parts = [address, summary.source, summary.teacher, summary.storage, record.licence, record.digest]
        return " ".join([*parts, *summary.features, *self.tags_of(record)]).casefold()


def read_catalog(root: str | Path) -> Catalog:
    """What is published at a URL or in a folder.

        catalog = softlab.read_catalog("s3://bucket/labels")
        for_my_data = softlab.find_for(catalog, softlab.open_source("pets/train"))

    Raises InvalidOption for one store's address, ObjectMissing where
    there is no such folder, or no catalogue on a web server, and what a remote raises; a record that can't be read is
    left out with a warning."""
    address = parse_catalogue(root)
    remote = connect(address)
    if not remote.can_list:
        return _read_written(remote)
    versions, tags = _list_records(remote)
    if not versions:
        check_is_catalogue(remote)
    return Catalog(root=address.root, versions=versions, tags=tags)


def find_for(
    catalog: Catalog, source: Source, *, contents: bool = False, on_sample: Callable[[int, int], None] | None = None
) -> list[VersionRecord]:
    """The versions whose labels are of exactly these samples: the same keys in the same order.

    With `contents` also the same bytes: then every sample is read, and `on_sample(done, total)` is called after each.
    """
    wanted = keys_fingerprint(source.keys)
    found = [each for each in catalog.versions if each.summary.keys_fingerprint == wanted]
    if not found or not contents:
        return found
    hashes = []
    for number in range(len(source)):
        hashes.append(source.read(number).content_hash)
        if on_sample is not None:
            on_sample(number + 1, len(source))
    fingerprint = source_fingerprint(source.keys, hashes)
    return [each for each in found if each.summary.source_fingerprint == fingerprint]


def update_catalog(remote: Remote, *, writer: str) -> None:
    """Write `catalog.json` as the records are now.

    If another process wrote it since the records were listed, they are listed again. So when several processes write at
    once, the last one has seen the records of all. Warns if others write all the time: one of them lists this version.
    """
    for _ in attempts():
        found = _read_tagged(remote)
        before = None if found is None else _decode(found, remote)
        versions, tags = _list_records(remote)
        if before and (before.versions, before.tags) == (versions, tags):
            return
        data = encode(CatalogRecord(updated=this_moment(), writer=writer, versions=versions, tags=tags))
        if remote.create(CATALOG_NAME, data) if found is None else remote.replace(CATALOG_NAME, data, tag=found.tag):
            return
    warnings.warn(
        f"{remote / CATALOG_NAME}: others write it all the time, and it may lack this version, which is published. "
        f"The next push adds it.",
        SoftlabWarning,
        stacklevel=2,
    )


def _read_written(remote: Remote) -> Catalog:
    try:
        data = remote.read(CATALOG_NAME, max_bytes=MAX_CATALOG_BYTES)
    except ObjectMissing:
        raise ObjectMissing(
            f"{remote / CATALOG_NAME}: is missing, so no catalogue is here, and web servers can't be listed. Check the "
            f"address."
        ) from None
    record = decode_record(data, CatalogRecord, where=remote / CATALOG_NAME)
    return Catalog(root=str(remote), versions=record.versions, tags=record.tags, updated=record.updated)


def _read_tagged(remote: Remote) -> Tagged | None:
    try:
        return remote.read_tagged(CATALOG_NAME, max_bytes=MAX_CATALOG_BYTES)
    except ObjectMissing:
        return None


def _decode(found: Tagged, remote: Remote) -> CatalogRecord | None:
    """None for something that is no catalogue, and is replaced by one. Raises UnsupportedStore for a newer one."""
    try:
        return decode_record(found.data, CatalogRecord, where=remote / CATALOG_NAME)
    except NotAStore:
        return None


def _list_records(remote: Remote) -> tuple[tuple[VersionRecord, ...], tuple[TagRecord, ...]]:
    """All that is published. Nothing is taken from `catalog.json`, which anybody who may write there can change, while
    a version's record is what its signature covers."""
    names = [name for name in remote.list_folders() if NAME.fullmatch(name)]
    numbers = sorted((name, number) for name, found in _ask(list_versions, remote, names) for number in found)
    tags = sorted((name, tag) for name, found in _ask(list_tags, remote, names) for tag in found)
    read = dict(in_parallel(lambda key: _readable(lambda: read_version(remote, *key)), numbers, jobs=JOBS))
    moved = dict(in_parallel(lambda key: _readable(lambda: read_tag(remote, *key)), tags, jobs=JOBS))
    return (
        tuple(record for key in numbers if (record := read[key])),
        tuple(tag for key in tags if (tag := moved[key])),
    )


def _ask(
    question: Callable[[Remote, str], list[Key]], remote: Remote, names: Sequence[str]
) -> list[tuple[str, list[Key]]]:
    return list(in_parallel(lambda name: question(remote, name), names, jobs=JOBS))


def _readable(read: Callable[[], Record]) -> Record | None:
    try:
        return read()
    except (StoreError, TooLarge) as error:
        warnings.warn(f"left out of the catalogue: {error}", SoftlabWarning, stacklevel=2)
        return None
