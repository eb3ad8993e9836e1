"""The manifest of a finished store, read from wherever the store lies."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from softlab.errors import AccessDenied, DamagedStore, NotAStore, ObjectMissing, StoreError, UnfinishedStore
from softlab.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, decode_manifest
from softlab.manifest.versions import VersionRecord
from softlab.plain_files import open_plain
from softlab.remote.remote import Place, Remote, TooLarge
from softlab.store.folder import is_unfinished
from softlab.store.published import Located

NEXT_STEP = "Check the address; a published store is named NAME@VERSION."


def read_manifest(place: Place, *, version: VersionRecord | None = None) -> tuple[Manifest, str]:
    """The manifest of a finished store and its digest; raises as `softlab.store.reader.open_store`."""
    return decode_manifest(read_manifest_bytes(place, version=version), where=str(place / MANIFEST_NAME))


def check_published(digest: str, located: Located) -> None:
    """Raises DamagedStore for a store that is not the one which was published under the name it was asked for by."""
    version = located.version
    if version is not None and digest != version.digest:
        raise _not_published(located.place, version, f"{digest[:12]}, not {version.digest[:12]}")


def read_manifest_bytes(place: Place, *, version: VersionRecord | None = None) -> bytes:
    """As they were written, and not looked into yet; raises as `open_store`. Of a published version, never more than
    were published."""
    where, expected = place / MANIFEST_NAME, version.manifest_bytes if version else MAX_MANIFEST_BYTES
    if isinstance(place, Path):
        _check_finished(place)
    try:
        return _read_bytes(place, max_bytes=min(expected, MAX_MANIFEST_BYTES))
    except TooLarge as error:
        if version is not None and error.size != expected:
            raise _not_published(place, version, f"{error.size:,} bytes, not {expected:,}") from None
        raise NotAStore(f"{where}: over {MAX_MANIFEST_BYTES:,} bytes. Get the store again.") from None
    except (FileNotFoundError, ObjectMissing):
        if isinstance(place, Remote) and place.can_list:
            _check_finished_remote(place)
        raise _missing(where) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAStore(f"{where}: {error.strerror}. {NEXT_STEP}") from None
        raise StoreError(f"{where}: can't be read: {error.strerror}. Check its permissions and the disk.") from error


def _read_bytes(place: Place, *, max_bytes: int) -> bytes:
    if isinstance(place, Remote):
        return place.read(MANIFEST_NAME, max_bytes=max_bytes)
    with open(open_plain(place / MANIFEST_NAME, os.O_RDONLY), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise TooLarge(place / MANIFEST_NAME, size, max_bytes)
        return file.read(size)


def _not_published(place: Place, version: VersionRecord, difference: str) -> DamagedStore:
    return DamagedStore(
        f"{place}: its manifest is not the one that was published as {version.name}@{version.version} ({difference}). "
        f"Don't use it; tell whoever published it."
    )


def _check_finished(path: Path) -> None:
    if is_unfinished(path):
        raise UnfinishedStore(
            f"{path}: is not finished. Run the same `softlab dump-teacher`, `convert` or `pull` command again to go on "
            f"with it."
        )
    if not path.exists():
        raise NotAStore(f"{path}: no such folder. {NEXT_STEP}")
    if not (path / MANIFEST_NAME).is_file():
        raise _missing(path / MANIFEST_NAME)


def _check_finished_remote(remote: Remote) -> None:
    """What a dump began there is told apart only where no manifest is."""
    with suppress(AccessDenied):
        if is_unfinished(remote):
            raise UnfinishedStore(f"{remote}: is not finished. Run the same `softlab dump-teacher` command again.")


def _missing(where: str | Path) -> NotAStore:
    return NotAStore(f"{where}: is missing, so this is not a softlab store. {NEXT_STEP}")
