"""Download files of a store, several at a time. A file that is there with the right hash is not fetched again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from softlab.disk import write_whole
from softlab.manifest import FileRecord, Manifest
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import Remote
from softlab.store.files import hash_matches
from softlab.store.growing import read_as_it_was

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are there by now, and those there will be."""

NEXT_STEP = "Pull again; if it stays so, tell whoever published it."


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A file to be copied, and the path that the copy gets."""

    source: FileRecord
    path: str

    @property
    def target(self) -> FileRecord:
        return msgspec.structs.replace(self.source, path=self.path)


def download_files(
    remote: Remote,
    out: Path,
    copies: Sequence[Copy],
    *,
    manifest: Manifest,
    jobs: int,
    on_bytes: OnBytes | None = None,
) -> int:
    """How many bytes were fetched. A file gets its name only when it is complete and has the recorded hash; `manifest`
    is that of the remote.

    Raises DamagedStore for a file with other bytes, StoreWriteFailed, and what a remote raises; files that were
    finished stay.
    """
    total, done, fetched = sum(copy.source.bytes for copy in copies), 0, 0
    for copy, count in in_parallel(lambda copy: _fetch(remote, out, copy, manifest), copies, jobs=jobs):
        fetched += count
        done += copy.source.bytes
        if on_bytes is not None:
            on_bytes(done, total)
    return fetched


def _fetch(remote: Remote, out: Path, copy: Copy, manifest: Manifest) -> int:
    if hash_matches(out, copy.target):
        return 0
    write_whole(out, {copy.path: read_as_it_was(remote, copy.source, manifest, next_step=NEXT_STEP)})
    return copy.source.bytes
