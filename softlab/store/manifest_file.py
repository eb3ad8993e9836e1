"""The manifest of a finished store, read from wherever the store lies."""

from pathlib import Path

from softlab.errors import DamagedStore, NotAStore, ObjectMissing, UnfinishedStore
from softlab.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, decode_manifest
from softlab.remote.remote import Place, Remote, TooLarge
from softlab.store.folder import is_unfinished
from softlab.store.published import Located


def read_manifest(place: Place) -> tuple[Manifest, str]:
    """The manifest of a finished store and its digest; raises as `softlab.store.reader.open_store`."""
    return decode_manifest(read_manifest_bytes(place), where=str(place / MANIFEST_NAME))


def check_published(digest: str, located: Located) -> None:
    """Raises DamagedStore for a store that is not the one which was published under the name it was asked for by."""
    version = located.version
    if version is not None and digest != version.digest:
        raise DamagedStore(
            f"{located.place}: its manifest is not the one that was published as {version.name}@{version.version} "
            f"({digest[:12]}, not {version.digest[:12]}). Don't use it; tell whoever published it."
        )


def read_manifest_bytes(place: Place) -> bytes:
    """As they were written, and not looked into yet; raises as `open_store`."""
    where = place / MANIFEST_NAME
    if isinstance(place, Path):
        _check_finished(place)
    try:
        return _read_bytes(place)
    except TooLarge:
        raise NotAStore(f"{where}: over {MAX_MANIFEST_BYTES:,} bytes. Get the store again.") from None
    except ObjectMissing:
        raise NotAStore(
            f"{where}: is missing, so this is not a softlab store. Check the address; a published store is named "
            f"NAME@VERSION."
        ) from None


def _read_bytes(place: Place) -> bytes:
    if isinstance(place, Remote):
        return place.read(MANIFEST_NAME, max_bytes=MAX_MANIFEST_BYTES)
    path = place / MANIFEST_NAME
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise TooLarge(path, path.stat().st_size, MAX_MANIFEST_BYTES)
    return path.read_bytes()


def _check_finished(path: Path) -> None:
    if is_unfinished(path):
        raise UnfinishedStore(
            f"{path}: is not finished. Run the same `softlab dump-teacher`, `convert` or `pull` command again to go on "
            f"with it."
        )
    if not (path / MANIFEST_NAME).is_file():
        raise NotAStore(f"{path}: no {MANIFEST_NAME} here, so this is not a softlab store. Check the path.")
