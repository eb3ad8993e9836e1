"""Make a folder hold the copy of a store. An interrupted copy goes on, and damaged files are fetched again.

A copy that is under way looks like a dump that is: `commits/plan.json` is written first, and the manifest last.
"""

from collections.abc import Mapping
from pathlib import Path

from softlab.card.render import CARD_NAME
from softlab.disk import read_whole, remove, sweep_temporaries, write_whole
from softlab.errors import StoreExists
from softlab.locks import exclusive
from softlab.manifest import MANIFEST_NAME, Manifest
from softlab.sharing.fetch.content import Content
from softlab.sharing.fetch.download import OnBytes, download_files
from softlab.sharing.fetch.origin import Origin
from softlab.store.access import settle_plan
from softlab.store.folder import LOCK_NAME, check_vacant, remove_finished_commits
from softlab.store.manifest_file import read_manifest_bytes
from softlab.store.published import SIGNATURE_NAME, VERSION_NAME


def make_local_copy(
    origin: Origin, content: Content, out: Path, *, jobs: int, on_bytes: OnBytes | None = None
) -> tuple[Manifest, int]:
    """The manifest of the store that is at `out` afterwards, and how many bytes were fetched. Raises as `writing` and
    `download_files`."""
    _check_place(out, content)
    with exclusive(out / LOCK_NAME):
        try:
            if not _is_there(out, content):
                settle_plan(out, content.manifest.plan)
            sweep_temporaries(out)
            fetched = download_files(
                origin.remote, out, content.copies, manifest=origin.manifest, jobs=jobs, on_bytes=on_bytes
            )
            write_whole(out, content.made)
            remove(out, _outdated(out, content.beside))
            write_whole(out, {name: data for name, data in content.beside.items() if not _is_kept(out / name)})
            if not _is_there(out, content):
                write_whole(out, {MANIFEST_NAME: content.manifest_bytes})
        finally:  # also `commits/`, which the lock makes anew in the folder of a finished store
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
    """Which of the version record and the signature in the folder must be removed, before new ones are written.

    A signature covers the version record beside it, so an old one of the two must not lie beside a new one. Example:
    the folder has version 1 and its signature, and version 2 isn't signed. Then the old signature goes. It goes first:
    a pull that is killed after it wrote the new record finds nothing to replace when it goes on.
    """
    pair = (VERSION_NAME, SIGNATURE_NAME)
    found = {name: data for name in pair if (data := read_whole(out / name)) is not None}
    if all(found.get(name) == beside[name] for name in pair if name in beside):
        return []
    return [name for name in found if name not in beside]


def _is_kept(path: Path) -> bool:
    """Whether it is a card that is there, which a person may have edited."""
    return path.name == CARD_NAME and path.exists()
