"""Versions and tags of a published store: found, created exactly once, moved without losing another's move."""

import re
from datetime import UTC, datetime

import msgspec

from softlab.errors import InvalidOption, ObjectMissing, RemoteFailed, VersionTaken
from softlab.manifest import encode
from softlab.manifest.versions import MAX_RECORD_BYTES, TagRecord, VersionRecord
from softlab.remote.attempts import attempts
from softlab.remote.remote import Remote
from softlab.store.published import decode_record, read_version, tag_path, version_path

LATEST = "latest"
"""The tag that never moves to a lower version."""


def this_moment() -> str:
    """As records write it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def list_versions(remote: Remote, name: str) -> list[int]:
    """The numbers of a name's versions, ascending; none for a name that isn't published."""
    pattern = re.compile(re.escape(f"{name}/versions/") + r"([1-9][0-9]{0,8})\.json")
    matches = (pattern.fullmatch(each.path) for each in remote.list_objects(f"{name}/versions"))
    return sorted(int(match[1]) for match in matches if match)


def list_tags(remote: Remote, name: str) -> list[str]:
    pattern = re.compile(re.escape(f"{name}/tags/") + r"([a-z](?:[a-z0-9-]{0,30}[a-z0-9])?)\.json")
    matches = (pattern.fullmatch(each.path) for each in remote.list_objects(f"{name}/tags"))
    return sorted(match[1] for match in matches if match)


def check_version_free(remote: Remote, draft: VersionRecord, *, version: int | None) -> None:
    """Raises what `publish_version` would raise, before anything is uploaded in vain."""
    if version is not None:
        if remote.size(version_path(draft.name, version)) is not None:
            _same_or_taken(remote, read_version(remote, draft.name, version), draft)
        return
    newest = max(list_versions(remote, draft.name), default=0)
    if newest:
        found = read_version(remote, draft.name, newest)
        if found.digest == draft.digest:
            _same_or_taken(remote, found, draft)


def publish_version(remote: Remote, draft: VersionRecord, *, version: int | None) -> VersionRecord:
    """The record under which the draft's store is published now; if it was published before, the record from then.

    Without a number it is the next one, unless the newest version is this very store. Raises VersionTaken where another
    store has the number, InvalidOption where this very store was published under another licence or other terms.
    """
    if version is not None:
        return _create(remote, draft, version) or _same_or_taken(
            remote, read_version(remote, draft.name, version), draft
        )
    newest = max(list_versions(remote, draft.name), default=0)
    while True:
        if newest:
            found = read_version(remote, draft.name, newest)
            if found.digest == draft.digest:
                return _same_or_taken(remote, found, draft)
        newest += 1
        created = _create(remote, draft, newest)
        if created is not None:
            return created


def move_tag(remote: Remote, name: str, tag: str, *, version: int, writer: str) -> TagRecord:
    """Move a tag to a version; the tag as it stands then. `latest` never moves to a lower version.

    Raises RemoteFailed if others move it all the time.
    """
    path = tag_path(name, tag)
    for _ in attempts():
        try:
            found = remote.read_tagged(path, max_bytes=MAX_RECORD_BYTES)
        except ObjectMissing:
            found = None
        if found is not None:
            stands = decode_record(found.data, TagRecord, where=remote / path)
            if stands.version == version or (tag == LATEST and stands.version > version):
                return stands
        moved = TagRecord(name=name, tag=tag, version=version, moved=this_moment(), writer=writer)
        data = encode(moved)
        if remote.create(path, data) if found is None else remote.replace(path, data, tag=found.tag):
            return moved
    raise RemoteFailed(f"{remote / path}: others move this tag all the time. Run the same command again.")


def _create(remote: Remote, draft: VersionRecord, version: int) -> VersionRecord | None:
    """None where something is published under this number."""
    record = msgspec.structs.replace(draft, version=version)
    data, path = encode(record), version_path(record.name, version)
    try:
        msgspec.json.decode(data, type=VersionRecord)
    except msgspec.ValidationError as error:
        raise InvalidOption(f"{remote / path}: can't be written: {error}. Change that.") from None
    return record if remote.create(path, data) else None


def _same_or_taken(remote: Remote, found: VersionRecord, draft: VersionRecord) -> VersionRecord:
    """The record that was found, if it is of the draft's store; raises as `publish_version`."""
    if (found.digest, found.licence, found.terms) == (draft.digest, draft.licence, draft.terms):
        return found
    free = max(list_versions(remote, found.name), default=0) + 1
    if found.digest == draft.digest:
        differs, under = ("terms", "other terms") if found.licence == draft.licence else ("licence", "another licence")
        raise InvalidOption(
            f"{remote / found.name}@{found.version}: this very store is published here under {under} than yours. "
            f"Versions never change: give the same --{differs}, or push {found.name}@{free} to publish it anew."
        )
    raise VersionTaken(
        f"{remote / found.name}@{found.version}: another store is published here since {found.published} (digest "
        f"{found.digest[:12]}; yours is {draft.digest[:12]}). Versions never change: push {found.name}@{free}, the "
        f"next free one, or leave the number out."
    )
