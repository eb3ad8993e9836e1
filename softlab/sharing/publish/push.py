"""Publish a store under a name and a version: its files first, the record of the version last.

Every step may be done again: after a kill, a lost connection or a full disk the same command goes on where the last one
stopped, and ends in the same state.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from softlab.card.render import CARD_NAME
from softlab.errors import InvalidOption
from softlab.manifest.versions import VersionRecord, summarise
from softlab.plain_files import read_if_there
from softlab.remote.address import VERSION, Address, parse_place
from softlab.remote.connect import connect
from softlab.remote.remote import Remote
from softlab.sharing.catalogue.catalog import CATALOG_NAME, update_catalog
from softlab.sharing.catalogue.page import page_files
from softlab.sharing.catalogue.versions import LATEST, check_version_free, move_tag, publish_version, this_moment
from softlab.sharing.publish.leases import PushLease
from softlab.sharing.publish.metadata import MAX_CARD_BYTES, encode_card, metadata_files
from softlab.sharing.publish.upload import OnProgress, open_with_manifest, upload_store
from softlab.store.published import store_path as tree_path
from softlab.store.reader import Store

MAX_TEXT, MAX_VERSION = 4096, 999_999_999


@dataclass(frozen=True, kw_only=True, slots=True)
class PushOptions:
    """The licence and tags of a version, and how its files are uploaded."""

    licence: str
    """Of the soft labels: an SPDX identifier, or words."""

    terms: str
    """What the teacher's own licence says about its outputs; empty where it says nothing."""

    tags: tuple[str, ...] = (LATEST,)
    """Moved to the version; `latest` only forwards."""

    jobs: int = 16
    """Files that are uploaded at once."""

    check: bool = False
    """Whether files that are there, or are copied there, are read and hashed, and uploaded again where they differ:
    mends a published store that was damaged."""

    def __post_init__(self) -> None:
        if not self.licence.strip():
            raise InvalidOption("the licence is empty. Give --licence, an SPDX identifier such as CC-BY-4.0, or words.")
        for name, text in [("licence", self.licence), ("terms", self.terms)]:
            if len(text) > MAX_TEXT:
                raise InvalidOption(f"{name} of {len(text):,} characters; at most {MAX_TEXT:,} are kept. Shorten it.")
        for tag in self.tags:
            if tag.isdigit() or not VERSION.fullmatch(tag):
                raise InvalidOption(
                    f"the tag {tag!r} is not a letter with up to 31 lower-case letters, digits and hyphens behind it. "
                    f"Change it."
                )
        if not 1 <= self.jobs <= 256:
            raise InvalidOption(f"jobs = {self.jobs}: expected 1 to 256. Change --jobs.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """A version that is published now."""

    address: str
    """`s3://bucket/labels/NAME@3`."""

    version: int
    digest: str
    files_uploaded: int
    files_copied: int
    files_skipped: int
    bytes_uploaded: int


def push(
    store_path: str | Path, place: str | Path, *, options: PushOptions, on_progress: OnProgress | None = None
) -> Pushed:
    """Publish a store at `s3://bucket/labels/NAME` as the next version, or at `s3://bucket/labels/NAME@3` as version 3.

        options = softlab.PushOptions(licence="CC-BY-4.0", terms="")
        softlab.push("runs/pets.zarr", "s3://bucket/labels/pets", options=options)

    If the newest version (or version 3) is this very store already, no new version is made; its tags, its card and its
    other metadata are brought up to date.

    Raises InvalidOption for a place that can't be published at, VersionTaken if another store has the number,
    InvalidOption if this very store is published there under another licence or other terms, what `open_store` raises,
    DamagedStore for files that aren't what the manifest records (nothing is published then), StoreBusy if `gc` is
    removing what was left of this very store, and what a remote raises.
    """
    address, version = _parse_target(place)
    assert address.name is not None, "checked above"
    store, manifest = open_with_manifest(store_path)
    remote, writer, own_card = connect(address), secrets.token_hex(16), _own_card(store)
    _check_no_catalogue(remote, address.name, place=place)
    draft = _draft(store, address.name, options, manifest_bytes=len(manifest), writer=writer)
    check_version_free(remote, draft, version=version)
    encode_card(store, draft, address=_published_at(address, draft), own_card=own_card)
    lease = PushLease(remote.within(tree_path(draft.name, draft.digest)), writer=writer)
    uploaded = upload_store(
        store,
        manifest,
        remote,
        draft.name,
        lease=lease,
        jobs=options.jobs,
        check=options.check,
        on_progress=on_progress,
    )
    record = publish_version(remote, draft, version=version)
    lease.release()
    published = _published_at(address, record)
    beside = metadata_files(store, record, manifest=manifest, address=published, own_card=own_card)
    _finish(remote, record, beside, tags=options.tags, writer=writer)
    return Pushed(address=published, version=record.version, digest=record.digest, **asdict(uploaded))


def _parse_target(place: str | Path) -> tuple[Address, int | None]:
    if isinstance(place, str) and "/" not in place:
        raise InvalidOption(f"{place}: names no folder to publish in. Write FOLDER/{place}, or ./{place} for this one.")
    address = parse_place(place)
    if address.is_read_only:
        raise InvalidOption(f"{place}: can only be read. Push into an object store or a folder.")
    if address.version is None:
        return address, None
    if not address.version.isdigit():
        raise InvalidOption(
            f"{place}: a version is published under a number. Leave @{address.version} out, and give it as --tag."
        )
    return address, int(address.version)


def _check_no_catalogue(remote: Remote, name: str, *, place: str | Path) -> None:
    if remote.size(f"{name}/{CATALOG_NAME}") is not None:
        where = remote / name
        raise InvalidOption(f"{place}: is a catalogue. Give a name below it: {where}/NAME.")


def _published_at(address: Address, record: VersionRecord) -> str:
    return str(Address(root=address.root, name=record.name, version=str(record.version)))


def _draft(store: Store, name: str, options: PushOptions, *, manifest_bytes: int, writer: str) -> VersionRecord:
    """The version's record before its number is known. The number in it is as long as any, so that its size is too."""
    return VersionRecord(
        name=name,
        version=MAX_VERSION,
        digest=store.digest,
        manifest_bytes=manifest_bytes,
        published=this_moment(),
        writer=writer,
        licence=options.licence.strip(),
        terms=options.terms.strip(),
        summary=summarise(store.manifest),
    )


def _finish(
    remote: Remote, record: VersionRecord, beside: Mapping[str, bytes], *, tags: Collection[str], writer: str
) -> None:
    """Write all else that a version needs once its record is there: metadata, tags, the page, `catalog.json`."""
    for path, data in beside.items():
        _write_if_different(remote, f"{record.name}/{path}", data)
    for tag in dict.fromkeys(tags):
        move_tag(remote, record.name, tag, version=record.version, writer=writer)
    for path, data in page_files().items():
        _write_if_different(remote, path, data)
    update_catalog(remote, writer=writer)


def _own_card(store: Store) -> str | None:
    """The card beside a local store, which a person may have added to."""
    path = store.path / CARD_NAME if isinstance(store.path, Path) else None
    try:
        card = None if path is None else read_if_there(path, max_bytes=MAX_CARD_BYTES)
    except OSError as error:
        raise InvalidOption(
            f"{path}: {error.strerror}. Only a card of its own, and a short one, is published."
        ) from None
    return None if card is None else card.decode(errors="replace")


def _write_if_different(remote: Remote, path: str, data: bytes) -> None:
    if remote.size(path) != len(data) or remote.read(path, max_bytes=len(data)) != data:
        remote.write(path, data)
