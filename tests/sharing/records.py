"""Records of published versions, without anything having been published."""

import msgspec

from softlab.manifest import MANIFEST_NAME
from softlab.manifest.versions import Summary, TagRecord, VersionRecord, summarise
from softlab.remote.remote import Remote
from softlab.store.reader import Store
from tests.manifests import make_manifest

WRITER = "0" * 32


def make_version(name: str = "pets", version: int = 3, **changes: object) -> VersionRecord:
    """Of a store that is nowhere, with some parts of its record or its summary replaced."""
    of_summary = {key: value for key, value in changes.items() if key in Summary.__struct_fields__}
    record = VersionRecord(
        name=name,
        version=version,
        digest=f"{version:064x}",
        manifest_bytes=1234,
        published=f"2026-10-{version:02d}T10:20:30Z",
        writer=WRITER,
        licence="CC-BY-4.0",
        terms="",
        summary=msgspec.structs.replace(summarise(make_manifest()), **of_summary),
    )
    return msgspec.structs.replace(record, **{key: changes[key] for key in changes.keys() - of_summary.keys()})


def make_tag(name: str, tag: str, version: int) -> TagRecord:
    return TagRecord(name=name, tag=tag, version=version, moved="2026-10-09T10:20:30Z", writer=WRITER)


def version_of(store: Store, name: str = "pets", version: int = 3, **changes: object) -> VersionRecord:
    """The record that a store on this disk would be published under."""
    assert not isinstance(store.path, Remote), "on this disk"
    record = make_version(
        name, version, digest=store.digest, manifest_bytes=(store.path / MANIFEST_NAME).stat().st_size, **changes
    )
    return msgspec.structs.replace(record, summary=summarise(store.manifest))
