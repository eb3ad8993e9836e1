"""A copy in its folder: unfinished until its last byte is there, gone on with after a crash, mended when it is damaged.

What is under way looks as a dump does: `commits/plan.json` comes first, the manifest last.
"""

from collections.abc import Mapping
from pathlib import Path

from softlab.card.render import CARD_NAME
from softlab.disk import exclusive, is_temporary, list_files, remove, write_whole
from softlab.errors import StoreExists
from softlab.manifest import MANIFEST_NAME, Manifest
from softlab.sharing.fetch.content import Content
from softlab.sharing.fetch.download import OnBytes, download_files
from softlab.sharing.fetch.origin import Origin
from softlab.store.folder import LOCK_NAME, check_vacant, remove_finished_commits
from softlab.store.manifest_file import read_manifest_bytes
from softlab.store.published import SIGNATURE_NAME, VERSION_NAME
from softlab.store.writer import settle_plan


def make_local_copy(
    origin: Origin, content: Content, out: Path, *, jobs: int, on_bytes: OnBytes | None = None
) -> tuple[Manifest, int]:
    """The manifest of the store that is at `out` then, and how many bytes were fetched. Raises as `writing`, and as
    `download_files`."""
    _check_place(out, content)
    with exclusive(out / LOCK_NAME):
        try:
            if not _is_there(out, content):
                settle_plan(out, content.manifest.plan)
            remove(out, [path for path in list_files(out) if is_temporary(path)])
            fetched = download_files(origin.remote, out, content.copies, jobs=jobs, on_bytes=on_bytes)
            write_whole(out, content.made)
            remove(out, _outdated(out, content.beside))
            write_whole(out, {name: data for name, data in content.beside.items() if not _is_kept(out / name)})
            if not _is_there(out, content):
                write_whole(out, {MANIFEST_NAME: content.manifest_bytes})
        finally:  # also the folder of the lock, where the store was finished before
            remove_finished_commits(out)
    return content.manifest, fetched


def _check_place(out: Path, content: Content) -> None:
    """Raises StoreExists for another store, also one that this one was made from by adding views."""
    if not (out / MANIFEST_NAME).exists():
        check_vacant(out, content.manifest.plan)
    elif not _is_there(out, content):
        raise StoreExists(
            f"{out}: already holds another store than the one to be pulled ({content.digest[:12]}). Choose another "
            f"folder, or remove that one."
        )


def _is_there(out: Path, content: Content) -> bool:
    return (out / MANIFEST_NAME).exists() and read_manifest_bytes(out) == content.manifest_bytes


def _outdated(out: Path, beside: Mapping[str, bytes]) -> list[str]:
    """A signature is also of the version record beside it: where one of the two is replaced, the other one is too, or
    goes, and goes first, because a pull that is killed in between finds nothing to replace when it goes on."""
    pair = (VERSION_NAME, SIGNATURE_NAME)
    found = {name: (out / name).read_bytes() for name in pair if (out / name).is_file()}
    if all(found.get(name) == beside[name] for name in pair if name in beside):
        return []
    return [name for name in found if name not in beside]


def _is_kept(path: Path) -> bool:
    """A card may have been added to."""
    return path.name == CARD_NAME and path.exists()
