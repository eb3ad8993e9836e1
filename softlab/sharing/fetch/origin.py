"""The store that is pulled from: its manifest as it was published, and what lies beside that."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from softlab.card.render import CARD_NAME, render_card
from softlab.errors import NotAStore, SoftlabWarning
from softlab.manifest import MANIFEST_NAME, Manifest, decode_manifest
from softlab.manifest.versions import VersionRecord
from softlab.remote.address import Address, parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote, TooLarge
from softlab.store.folder import COMMITS
from softlab.store.manifest_file import check_published, read_manifest_bytes
from softlab.store.published import SIGNATURE_NAME, VERSION_NAME, locate, read_if_there, signature_path, version_path

BESIDE = (VERSION_NAME, SIGNATURE_NAME, CARD_NAME)
"""What may lie beside the manifest of a store without being named in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """A finished store at an address, of which nothing but its manifest has been read."""

    remote: Remote
    name: str
    """For messages, as `Located` has it."""

    manifest_bytes: bytes
    """As they were published: the digest and the signature are of exactly these bytes."""

    manifest: Manifest
    digest: str
    version: VersionRecord | None
    """Where it was asked for by name and version."""

    beside: Mapping[str, bytes]
    """Name to bytes of those files of `BESIDE` that exist."""

    def card_of_part(self, manifest: Manifest) -> str:
        """The card of a store that is a part of this one: the licence and what the owner wrote are true of it too."""
        own_card = self.beside.get(CARD_NAME)
        return render_card(
            manifest, version=self.version, own_card=None if own_card is None else own_card.decode(errors="replace")
        )

    @property
    def num_bytes(self) -> int:
        """Of the whole store."""
        return len(self.manifest_bytes) + sum(file.bytes for file in self.manifest.files)


def open_origin(where: str | Path) -> Origin:
    """Raises as `open_store`, and NotAStore for a manifest that names a file which it must not name, as the card is."""
    located = locate(where)
    data = read_manifest_bytes(located.place, version=located.version)
    manifest, digest = decode_manifest(data, where=str(located.place / MANIFEST_NAME))
    check_published(digest, located)
    remote = located.place if isinstance(located.place, Remote) else connect(Address(root=str(located.place)))
    _check_names(manifest, remote)
    return Origin(
        remote=remote,
        name=located.name,
        manifest_bytes=data,
        manifest=manifest,
        digest=digest,
        version=located.version,
        beside=_read_beside(remote) if located.version is None else _read_published(where, located.version),
    )


def _check_names(manifest: Manifest, remote: Remote) -> None:
    """Its files are written to a folder in which some names have a meaning of their own."""
    taken = {name.casefold() for name in (MANIFEST_NAME, *BESIDE)}
    for file in manifest.files:
        name = file.path.casefold()
        if name in taken or name.startswith(f"{COMMITS}/"):
            raise NotAStore(f"{remote / MANIFEST_NAME}: names {file.path} as a file of the store. Don't use it.")


def _read_published(where: str | Path, version: VersionRecord) -> dict[str, bytes]:
    """The files beside a published version, where they have other names: the card is `versions/3.md`, for example."""
    record = version_path(version.name, version.version)
    paths = {
        VERSION_NAME: record,
        SIGNATURE_NAME: signature_path(version.name, version.version),
        CARD_NAME: f"{record.removesuffix('.json')}.md",
    }
    return _read_existing(connect(parse_address(where)), paths)


def _read_beside(remote: Remote) -> dict[str, bytes]:
    return _read_existing(remote, {name: name for name in BESIDE})


def _read_existing(remote: Remote, paths: Mapping[str, str]) -> dict[str, bytes]:
    """Name to bytes of those that exist. A card that is too large is left out, as nothing depends on it."""
    found = {}
    for name, path in paths.items():
        try:
            found[name] = read_if_there(remote, path)
        except TooLarge as error:
            if name != CARD_NAME:
                raise
            warnings.warn(
                f"{remote / path}: this card is left out, as it has {error.size:,} bytes. Tell whoever published it.",
                SoftlabWarning,
                stacklevel=2,
            )
    return {name: data for name, data in found.items() if data is not None}
