"""Find out which files of a published store are intact: their bytes are hashed, because sizes alone prove little."""

from collections.abc import Callable, Mapping, Sequence

from softlab.errors import DamagedStore
from softlab.manifest import MANIFEST_NAME, FileRecord
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import Remote
from softlab.store.files import read_file


def is_intact(tree: Remote, file: FileRecord) -> bool:
    """Whether a file has the recorded bytes; False too for one that is missing."""
    try:
        read_file(tree, file)
    except DamagedStore:
        return False
    return True


def find_intact(
    tree: Remote,
    files: Sequence[FileRecord],
    there: Mapping[str, int],
    *,
    jobs: int,
    on_bytes: Callable[[int], None],
) -> dict[str, int]:
    """Path to size of the files that are intact, out of those that the listing `there` has with the right size.

    `on_bytes` is called with the number of bytes found intact so far; those of the manifest don't count.
    """
    found: dict[str, int] = {}
    done = 0
    candidates = [file for file in files if there.get(file.path) == file.bytes]
    for file, intact in in_parallel(lambda file: is_intact(tree, file), candidates, jobs=jobs):
        if intact:
            found[file.path] = file.bytes
            done += file.bytes if file.path != MANIFEST_NAME else 0
        on_bytes(done)
    return found
