"""Remove what was left behind: stores that no version names, leases, temporary files in folders, and dumps to an object
store that were given up.

softlab uploads every object in one request, so it never leaves parts of an unfinished upload anywhere.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from re import fullmatch
from typing import Literal

from softlab.disk import is_temporary, list_files, remove
from softlab.errors import InvalidOption
from softlab.remote.address import NAME, Address
from softlab.remote.connect import connect
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import Remote
from softlab.sharing.catalogue.root import check_is_catalogue, parse_catalogue
from softlab.sharing.catalogue.versions import list_versions
from softlab.sharing.publish.given_up import find_given_up, remove_given_up
from softlab.sharing.publish.leases import GC_NAME, PUSH_NAME, GcLease
from softlab.store.published import PROBE, read_version, store_path

MIN_AGE_S = 3600.0
"""Nothing younger may be removed. A push that is under way renews its lease far more often than this."""

JOBS = 16
BATCH = 128
"""Files that are removed before this process looks again whether its lease is still there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GcOptions:
    """What `collect_garbage` removes."""

    older_than_s: float = 7 * 86_400.0
    """What was written to within this time stays: a push may be under way, or may go on tomorrow."""

    dry_run: bool = False
    """Only report what would be removed."""

    def __post_init__(self) -> None:
        if self.older_than_s < MIN_AGE_S:
            raise InvalidOption(
                f"older than {self.older_than_s:g} s: a push that is under way could be among that. Give --older-than "
                f"1h or more."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """Something that no version needs."""

    kind: Literal["store", "dump", "lease", "temporary"]
    path: str
    """Below the root; for a store or a dump, that of its folder."""

    files: int
    bytes: int
    newest: datetime | None
    """When one of its files was last written; None for a lease, which may be removed at any age."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GcReport:
    """What was removed, or would be."""

    leftovers: tuple[Leftover, ...]
    in_use: tuple[str, ...]
    """Folders that a push, or another gc, turned out to be at work on."""


def collect_garbage(
    root: str | Path, *, options: GcOptions | None = None, on_leftover: Callable[[int, int], None] | None = None
) -> GcReport:
    """Remove what lies below a URL or in a folder and no version needs; `on_leftover(done, total)` tells how far.

    Raises InvalidOption for an address that can't be removed from, ObjectMissing for a folder that isn't there,
    NotAStore or DamagedStore for a version record that can't be read, because what it names may be in use, and what a
    remote raises. Nothing that a version names is ever removed.
    """
    options, address = options or GcOptions(), _checked_root(root)
    remote, age = connect(address), timedelta(seconds=options.older_than_s)
    found = _find(remote, age=age)
    if not address.is_local:  # in a folder, a dump is gone on with or removed by whoever has it on his disk
        found += _find_dumps(remote, age=age)
    if not found:
        check_is_catalogue(remote)
    found += _find_temporaries(address, age=age)
    removed, in_use = [], []
    for done, leftover in enumerate(found, start=1):
        if options.dry_run or _remove(remote, leftover, age=age):
            removed.append(leftover)
        else:
            in_use.append(leftover.path)
        if on_leftover is not None:
            on_leftover(done, len(found))
    return GcReport(leftovers=tuple(removed), in_use=tuple(in_use))


def _checked_root(root: str | Path) -> Address:
    address = parse_catalogue(root)
    if address.is_read_only:
        raise InvalidOption(f"{root}: can only be read. Clean up where its files come from.")
    return address


def _find(remote: Remote, *, age: timedelta) -> list[Leftover]:
    names = [name for name in remote.list_folders() if NAME.fullmatch(name)]
    found = dict(in_parallel(lambda name: _find_of(remote, name, age=age), names, jobs=JOBS))
    return [leftover for name in names for leftover in found[name]]


def _find_of(remote: Remote, name: str, *, age: timedelta) -> list[Leftover]:
    digests = [folder for folder in remote.list_folders(f"{name}/stores") if fullmatch("[0-9a-f]{64}", folder)]
    live, found = _live_digests(remote, name), []
    for digest in digests:
        folder = store_path(name, digest)
        if digest in live:
            found += [*_find_leases(remote, folder), *_find_probes(remote, folder, age=age)]
            continue
        objects = remote.list_objects(folder)
        newest = max((each.modified for each in objects), default=None)
        if newest is not None and datetime.now(UTC) - newest > age:
            size = sum(each.bytes for each in objects)
            found.append(Leftover(kind="store", path=folder, files=len(objects), bytes=size, newest=newest))
    return found


def _live_digests(remote: Remote, name: str) -> set[str]:
    return {read_version(remote, name, version).digest for version in list_versions(remote, name)}


def _find_leases(remote: Remote, folder: str) -> list[Leftover]:
    """Leases in a tree that a version names, which needs none."""
    sizes = {path: remote.size(path) for path in (f"{folder}/{PUSH_NAME}", f"{folder}/{GC_NAME}")}
    return [
        Leftover(kind="lease", path=path, files=1, bytes=size, newest=None)
        for path, size in sizes.items()
        if size is not None
    ]


def _find_probes(remote: Remote, folder: str, *, age: timedelta) -> list[Leftover]:
    """By which a push that was killed tested the server."""
    return [
        Leftover(kind="temporary", path=each.path, files=1, bytes=each.bytes, newest=each.modified)
        for each in remote.list_objects(folder)
        if PROBE.fullmatch(each.path.removeprefix(f"{folder}/")) and datetime.now(UTC) - each.modified > age
    ]


def _find_dumps(remote: Remote, *, age: timedelta) -> list[Leftover]:
    return [
        Leftover(
            kind="dump",
            path=name,
            files=len(objects),
            bytes=sum(each.bytes for each in objects),
            newest=max(each.modified for each in objects),
        )
        for name, objects in find_given_up(remote, age=age).items()
    ]


def _find_temporaries(address: Address, *, age: timedelta) -> list[Leftover]:
    """What processes that were killed left while they wrote to a folder."""
    if not address.is_local:
        return []
    root, found = Path(address.root), []
    for path in list_files(root):
        if is_temporary(path):
            try:
                state = (root / path).lstat()
            except FileNotFoundError:
                continue  # it got its own name meanwhile
            modified = datetime.fromtimestamp(state.st_mtime, UTC)
            if datetime.now(UTC) - modified > age:
                found.append(Leftover(kind="temporary", path=path, files=1, bytes=state.st_size, newest=modified))
    return found


def _remove(remote: Remote, leftover: Leftover, *, age: timedelta) -> bool:
    """False for a store that is in use after all."""
    if leftover.kind == "store":
        return _remove_store(remote, leftover.path, age=age)
    if leftover.kind == "dump":
        return remove_given_up(remote, leftover.path, age=age)
    if is_temporary(leftover.path):  # which is no object
        remove(Path(remote.root), [leftover.path])
    else:
        remote.delete([leftover.path])
    return True


def _remove_store(remote: Remote, folder: str, *, age: timedelta) -> bool:
    name, _, digest = folder.split("/")
    tree, lease = remote.within(folder), GcLease(remote.within(folder), writer=secrets.token_hex(16))
    if not lease.acquire():
        return False
    objects = {each.path: each for each in tree.list_objects()}
    own = objects.pop(GC_NAME, None)
    is_fresh = own is None or any(own.modified - each.modified <= age for each in objects.values())
    # Versions are read after our lease is written: a push that has released its own by now has published before.
    if is_fresh or digest in _live_digests(remote, name):
        lease.release()
        return False
    paths = sorted(objects)
    for start in range(0, len(paths), BATCH):
        if not lease.renew():
            return False
        batch = paths[start : start + BATCH]
        for _ in in_parallel(tree.delete, [batch[job::JOBS] for job in range(min(JOBS, len(batch)))], jobs=JOBS):
            pass
    lease.release()
    return True
