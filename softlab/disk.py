"""Files that are whole or absent: written beside their place, fsync, rename, fsync of the folder; and locks on them."""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from softlab.errors import StoreBusy, StoreError, StoreWriteFailed

TEMPORARY_SUFFIX = ".tmp"


def temporary_name(name: str) -> str:
    """Under which what is to have this name is written."""
    return f"{name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"


def is_temporary(path: str) -> bool:
    """Whether a name is that of a file which a process was still writing when it was killed."""
    return re.search(rf"\.[0-9a-f]{{12}}{re.escape(TEMPORARY_SUFFIX)}\Z", path) is not None


def sweep_temporaries(folder: Path) -> None:
    """Remove what processes that were killed left below a folder, once what they were writing is there."""
    remove(folder, [path for path in list_files(folder) if is_temporary(path)])


def write_whole(root: Path, files: Mapping[str, bytes | memoryview]) -> None:
    """Write some files, each of which is whole or absent, and on disk when this returns. Raises StoreWriteFailed."""
    with disk_errors(root):
        finished = [(root / path, _write_temporary(root / path, data)) for path, data in files.items()]
        for target, temporary in finished:
            os.replace(temporary, target)
        for folder in {target.parent for target, _ in finished}:
            _sync_folder(folder)


def create_file(path: Path, data: bytes | memoryview) -> None:
    """Write one file that must not be there yet; of two processes that try, one gets StoreBusy."""
    with disk_errors(path.parent):
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise StoreBusy(f"{path}: written by another process at the same time. Let that one go on.") from None
        finally:
            temporary.unlink()
        _sync_folder(path.parent)


def read_whole(path: Path) -> bytes:
    """All bytes of a file. Raises FileNotFoundError, and StoreError where the disk or its permissions refuse them, and
    for a device or a pipe, which may have no end."""
    if path.exists() and not path.is_file():
        raise StoreError(f"{path}: is no plain file. Put back the file that was here, or remove this.")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path}: can't be read: {error.strerror}. Check its permissions and the disk, then run the same command "
            f"again."
        ) from error


def list_files(root: Path) -> list[str]:
    """Every file below a folder, links included, as relative paths with forward slashes, sorted."""
    found = []
    for name, folders, files in os.walk(root):
        folder = Path(name)
        found += [folder / file for file in files]
        found += [folder / link for link in folders if (folder / link).is_symlink()]
    return sorted(path.relative_to(root).as_posix() for path in found)


def remove(root: Path, paths: list[str]) -> None:
    """Delete some files of a store, and the folders that this leaves empty; another process may do so too."""
    with disk_errors(root):
        for path in paths:
            (root / path).unlink(missing_ok=True)
        for folder in sorted({parent for path in paths for parent in (root / path).parents}, reverse=True):
            if folder.is_relative_to(root) and folder != root:
                _remove_if_empty(folder)


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


def _write_temporary(target: Path, data: bytes | memoryview) -> Path:
    _make_folder(target.parent)
    temporary = target.with_name(temporary_name(target.name))
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


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
    that to all."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY)
    if os.fstat(descriptor).st_uid == os.geteuid():
        with suppress(OSError):  # a file system that has no rights to give
            os.fchmod(descriptor, 0o666)
    return descriptor


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


def _make_folder(folder: Path) -> None:
    """With all that is missing above it, each on disk before what comes below it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Whatever the disk refuses inside is raised as StoreWriteFailed."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ENOSPC:
            reason += f" ({shutil.disk_usage(_existing(root)).free:,} bytes free)"
        raise StoreWriteFailed(
            f"{root}: can't write: {reason}. Nothing that was finished is lost: make room or mend the cause, "
            f"then run the same command again to go on."
        ) from error


def _existing(path: Path) -> Path:
    return next(folder for folder in [path, *path.absolute().parents] if folder.exists())
