"""Upload the files of a store into its published tree.

A file that is there is skipped. A file that another version of the same name has, or that lies in the same bucket, is
copied on the server. Every other file is read, compared with its hash, and uploaded. Whether a file is there is judged
by its name and size; with `check` it is also read and hashed.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from softlab.errors import AccessDenied, DamagedStore, RemoteFailed, SoftlabWarning, StoreError
from softlab.identity import digest_of
from softlab.manifest import MANIFEST_NAME, FileRecord
from softlab.remote.copying import copier
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import Remote
from softlab.sharing.catalogue.versions import list_versions
from softlab.sharing.publish.intact import find_intact, is_intact
from softlab.sharing.publish.leases import PushLease
from softlab.store.growing import read_as_it_was
from softlab.store.manifest_file import read_manifest, read_manifest_bytes
from softlab.store.published import read_version, store_path
from softlab.store.reader import Store, open_store

MAX_HELD_BYTES = 512 << 20
"""Most bytes in memory of files that are being uploaded; a larger file is uploaded alone."""

MAX_VERSIONS_ASKED, MAX_ORIGINS = 16, 4
"""How many of the newest versions of the same name are read, and in how many of their stores a file is looked for."""

OnProgress = Callable[[int, int], None]
"""Called with the bytes that are there and those of the whole store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """How the files that a manifest names came to be in the tree."""

    files_uploaded: int
    files_copied: int
    """On the server, from another version or from where the store lies."""

    files_skipped: int
    """They were there already; if that was checked, with the recorded bytes."""

    bytes_uploaded: int


def upload_store(
    store: Store,
    manifest: bytes,
    remote: Remote,
    name: str,
    *,
    lease: PushLease,
    jobs: int,
    check: bool = False,
    on_progress: OnProgress | None = None,
) -> Uploaded:
    """Bring every file of the store into its tree, the manifest last; with `check`, damaged files there are replaced.

    Raises DamagedStore for a file that isn't what the manifest records, StoreBusy if `gc` is at work on the tree.
    """
    tree, files = remote.within(store_path(name, store.digest)), store.manifest.files
    description = FileRecord(path=MANIFEST_NAME, bytes=len(manifest), blake3=store.digest)
    there, tell = lease.hold(), _telling(lease, on_progress, files)
    lease.check_conditions()
    if check:
        there = find_intact(tree, [*files, description], there, jobs=_jobs_in_memory(files, jobs), on_bytes=tell)
    missing = [file for file in files if there.get(file.path) != file.bytes]
    origins, copied = _find_origins(store, remote, name, missing), set[str]()
    own, copy_own = _find_own(store, tree)

    def send(file: FileRecord) -> None:
        can_copy = file.path in origins or own.get(file.path) == file.bytes
        if file.path in origins:
            remote.copy(origins[file.path], f"{store_path(name, store.digest)}/{file.path}")
        elif can_copy:
            copy_own(file.path)
        if can_copy and (not check or is_intact(tree, file)):
            copied.add(file.path)
            return
        tree.write(file.path, read_as_it_was(store.path, file, store.manifest))

    done = sum(file.bytes for file in files) - sum(file.bytes for file in missing)
    for file, _ in in_parallel(send, missing, jobs=_jobs_in_memory(missing, jobs)):
        done += file.bytes
        tell(done)
    if there.get(MANIFEST_NAME) != len(manifest):
        tree.write(MANIFEST_NAME, manifest)
    _check_complete(lease.hold(), [*files, description], where=tree)
    return Uploaded(
        files_uploaded=len(missing) - len(copied),
        files_copied=len(copied),
        files_skipped=len(files) - len(missing),
        bytes_uploaded=sum(file.bytes for file in missing if file.path not in copied),
    )


def _telling(lease: PushLease, on_progress: OnProgress | None, files: Collection[FileRecord]) -> Callable[[int], None]:
    """A function to call with the bytes that are there: it renews the lease and reports progress."""
    total = sum(file.bytes for file in files)

    def tell(done: int) -> None:
        lease.renew()
        if on_progress is not None:
            on_progress(done, total)

    return tell


def _jobs_in_memory(files: Collection[FileRecord], jobs: int) -> int:
    largest = max((file.bytes for file in files), default=0)
    return max(1, min(jobs, MAX_HELD_BYTES // max(1, largest)))


def _find_origins(store: Store, remote: Remote, name: str, missing: Collection[FileRecord]) -> dict[str, str]:
    """Path of a missing file to the path of an object on the server with the same bytes, where there is one."""
    wanted, origins = {file.path: (file.blake3, file.bytes) for file in missing}, dict[str, str]()
    if not wanted:
        return origins
    for digest in _other_stores(store, remote, name):
        found = _contents(remote, store_path(name, digest))
        origins |= {path: found[key] for path, key in wanted.items() if path not in origins and key in found}
    return origins


def _find_own(store: Store, tree: Remote) -> tuple[dict[str, int], Callable[[str], None]]:
    """Path to size of what the store has in the bucket that its tree is in, and a function that copies one of them into
    the tree on the server. Nothing for a store that lies elsewhere, or where it can't be listed."""
    copy = copier(store.path, tree) if isinstance(store.path, Remote) else None
    if copy is None or not isinstance(store.path, Remote):
        return {}, lambda _: None
    try:
        return {each.path: each.bytes for each in store.path.list_objects()}, copy
    except AccessDenied:
        return {}, copy


def _other_stores(store: Store, remote: Remote, name: str) -> list[str]:
    """Digests of stores that are published under the same name; first the one that this store was made from."""
    newest = list_versions(remote, name)[::-1][:MAX_VERSIONS_ASKED]
    digests = dict.fromkeys(read_version(remote, name, version).digest for version in newest)
    digests.pop(store.digest, None)
    return sorted(digests, key=lambda digest: digest != store.manifest.parent)[:MAX_ORIGINS]


def _contents(remote: Remote, folder: str) -> dict[tuple[str, int], str]:
    """Hash and size of a published store's files to their paths; without those that are missing or of another size."""
    tree = remote.within(folder)
    try:
        manifest, _ = read_manifest(tree)
    except StoreError as error:
        warnings.warn(f"nothing is copied from a version that can't be read. {error}", SoftlabWarning, stacklevel=2)
        return {}
    there = {each.path: each.bytes for each in tree.list_objects()}
    return {
        (file.blake3, file.bytes): f"{folder}/{file.path}"
        for file in manifest.files
        if there.get(file.path) == file.bytes
    }


def _check_complete(there: Mapping[str, int], files: Collection[FileRecord], *, where: Remote) -> None:
    """Compare with what the server lists, just before a version names the tree."""
    wrong = next((file.path for file in files if there.get(file.path) != file.bytes), None)
    if wrong is not None:
        raise RemoteFailed(f"{where / wrong}: is not there as it was uploaded. Run the same command again to go on.")


def open_with_manifest(where: str | Path) -> tuple[Store, bytes]:
    """A store, and its manifest's bytes as they are stored, which the digest is computed from."""
    store = open_store(where)
    data = read_manifest_bytes(store.path)
    if digest_of(data) == store.digest:
        return store, data
    if isinstance(store.path, Path):
        return open_with_manifest(where)  # views were added meanwhile
    raise DamagedStore(f"{store.name}: its manifest was changed while it was pushed. Push again.")
