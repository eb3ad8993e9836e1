"""Which files of a published store are what its manifest says, told by their bytes; names and sizes tell little."""

from collections.abc import Callable, Mapping, Sequence

from softlab.errors import DamagedStore
from softlab.manifest import MANIFEST_NAME, FileRecord
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import Remote
from softlab.store.files import read_file


def is_intact(tree: Remote, file: FileRecord) -> bool:
    """False too for a file that is missing."""
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
    """Path to bytes, of the files in a listing only those that are intact; `on_bytes` is told how many bytes of the
    store's files are."""
    found: dict[str, int] = {}
    done = 0
    candidates = [file for file in files if there.get(file.path) == file.bytes]
    for file, intact in in_parallel(lambda file: is_intact(tree, file), candidates, jobs=jobs):
        if intact:
            found[file.path] = file.bytes
            done += file.bytes if file.path != MANIFEST_NAME else 0
        on_bytes(done)
    return found
