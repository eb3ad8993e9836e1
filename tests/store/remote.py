"""Stores on a remote for tests: uploaded file by file, opened there, and what is asked of the place counted."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from softlab.disk import list_files
from softlab.manifest import MANIFEST_NAME, encode
from softlab.manifest.versions import VersionRecord, summarise
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote, Tagged
from softlab.store.cache import CacheOptions
from softlab.store.manifest_file import read_manifest
from softlab.store.published import store_path, version_path
from softlab.store.reader import Store, open_store


def upload(root: Path, url: str) -> Remote:
    """A copy of a store's folder; the remote that holds it."""
    remote = connect(parse_address(url))
    for path in list_files(root):
        remote.write(path, (root / path).read_bytes())
    return remote


def publish(root: Path, place: str, **changes: object) -> VersionRecord:
    """As `pets`, version 1; with some of its record replaced."""
    store = open_store(root)
    record = VersionRecord(
        name="pets",
        version=1,
        digest=store.digest,
        manifest_bytes=(root / MANIFEST_NAME).stat().st_size,
        published="2026-01-02T03:04:05Z",
        writer="0" * 32,
        licence="CC0-1.0",
        terms="Not for sale.",
        summary=summarise(store.manifest),
    )
    record = msgspec.structs.replace(record, **changes)
    upload(root, f"{place}/{store_path('pets', record.digest)}")
    connect(parse_address(place)).write(version_path("pets", 1), encode(record))
    return record


class Counting(FolderBackend):
    """A folder as a backend that takes its time, and remembers what was read."""

    def __init__(self, root: Path, *, pause_s: float = 0.0) -> None:
        super().__init__(root)
        self.reads: Counter[str] = Counter()
        self.most_at_once = 0
        self._folder, self._pause_s = root, pause_s
        self._at_once, self._lock = 0, threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Counting, (self._folder,)

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        with self._lock:
            self.reads[path] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self._pause_s)
        try:
            return super().read(path, max_bytes=max_bytes)
        finally:
            with self._lock:
                self._at_once -= 1

    def reads_below(self, *folders: str) -> Counter[str]:
        return Counter({path: count for path, count in self.reads.items() if path.startswith(folders)})

    def wait_for(self, paths: Iterable[str], *, timeout_s: float = 5.0) -> None:
        """Until all of some objects have been read."""
        wanted, deadline = set(paths), time.monotonic() + timeout_s
        while not wanted <= self.reads.keys():
            assert time.monotonic() < deadline, f"{sorted(wanted - self.reads.keys())[:3]} were not read"
            time.sleep(0.002)


def open_counted(root: Path, *, cache: CacheOptions, pause_s: float = 0.0) -> tuple[Store, Counting]:
    """A store in a folder as a remote one, and its backend."""
    backend = Counting(root, pause_s=pause_s)
    remote = Remote(f"counted://{root.name}", backend)
    manifest, digest = read_manifest(remote)
    return Store(remote, manifest, digest, cache=cache), backend
