"""Locks on folders, which the processes of one machine hold while they write there."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from softlab.disk import disk_errors
from softlab.errors import StoreBusy, StoreWriteFailed
from softlab.plain_files import open_plain


@contextmanager
def exclusive(path: Path, *, what: str = "store") -> Iterator[Callable[[], None]]:
    """Hold a lock while a store, or what else is in the folder above the lock's, is written; call what it gives to let
    those in who ask for it as `shared`. Raises StoreBusy at once if another process on this machine holds it.

    Some network file systems grant every lock. Nothing is lost there either: records are created exclusively, and
    `finalize` checks what they name.
    """
    with _locked(path, fcntl.LOCK_EX, what=what) as descriptor:
        yield lambda: _lock(path, descriptor, fcntl.LOCK_SH, what=what)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock together with others. Raises StoreBusy at once if a process on this machine holds it for itself."""
    with _locked(path, fcntl.LOCK_SH, what="store"):
        yield


@contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Hold a lock, once every other process on this machine that holds it has let it go."""
    with disk_errors(path.parent):
        descriptor = _open_lock(path)
    try:
        with disk_errors(path.parent):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path, kind: int, *, what: str) -> Iterator[int]:
    with disk_errors(path.parent):
        descriptor = _open_lock(path)
    try:
        _lock(path, descriptor, kind, what=what)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int, kind: int, *, what: str) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreBusy(
            f"{path.parent.parent}: another process is writing this {what}. Wait until it ends; "
            f"if it fails, the same command goes on where it stopped."
        ) from None
    except OSError as error:
        raise StoreWriteFailed(
            f"{path}: can't be locked: {error.strerror}. Choose an `out` on a file system with locks."
        ) from error


def _open_lock(path: Path) -> int:
    """Its descriptor, in a folder that a process which finishes its store may remove at this very moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open_for_all(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open_for_all(path)


def _open_for_all(path: Path) -> int:
    """Also where another user made it: to lock a file takes no right to write it but on NFS, so whoever makes it gives
    that to all. A file that was there keeps its rights."""
    try:
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return _open_existing(path)
    with suppress(OSError):  # a file system that has no rights to give
        os.fchmod(descriptor, 0o666)
    return descriptor


def _open_existing(path: Path) -> int:
    try:
        return open_plain(path, os.O_RDWR)
    except PermissionError:
        return open_plain(path, os.O_RDONLY)
