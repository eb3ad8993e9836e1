"""Files that are whole or absent: written beside their place, fsync, rename, fsync of the folder."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from softlab.errors import StoreBusy, StoreError, StoreWriteFailed
from softlab.plain_files import MAX_RECORD_BYTES, not_plain, read_if_there

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


def sweep_beside(target: Path) -> None:
    """Remove what processes that were killed left of this one file."""
    remove(target.parent, [path.name for path in target.parent.glob("*") if _is_temporary_of(target, path.name)])


def _is_temporary_of(target: Path, name: str) -> bool:
    return is_temporary(name) and name.rsplit(".", 2)[0] == target.name


def write_whole(root: Path, files: Mapping[str, bytes | memoryview]) -> None:
    """Write some files, each of which is whole or absent, and on disk when this returns. Raises StoreWriteFailed."""
    with disk_errors(root):
        finished = [(root / path, _write_temporary(root / path, data)) for path, data in files.items()]
        for target, temporary in finished:
            _replace(temporary, target)
        for folder in {target.parent for target, _ in finished}:
            _sync_folder(folder)


def write_filled(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """The same of one large file, which `fill` writes by and by. Raises StoreWriteFailed, and what `fill` raises."""
    with disk_errors(path.parent):
        _replace(_fill_temporary(path, fill), path)
        _sync_folder(path.parent)


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


def put_in_place(temporary: Path, target: Path) -> None:
    """Give a file that was written to its end by others its name, once it is on disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    _replace(temporary, target)
    _sync_folder(target.parent)


def read_whole(path: Path, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes | None:
    """All bytes of a file that nothing else vouches for; None if there is no such file. Raises StoreError where the
    disk or its permissions refuse them, for a link or what else is no plain file, and for more than `max_bytes`."""
    try:
        return read_if_there(path, max_bytes=max_bytes)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreError(f"{path}: {error.strerror}, then run the same command again.") from None
        raise StoreError(
            f"{path}: can't be read: {error.strerror}. Check its permissions and the disk, then run the same command "
            f"again."
        ) from error


def list_files(root: Path) -> list[str]:
    """Every file below a folder, links included, as relative paths with forward slashes, sorted. Raises StoreError
    where a folder can't be listed: what is in it would pass for not being there."""
    found = []
    for name, folders, files in os.walk(root, onerror=_refuse_to_guess):
        folder = Path(name)
        found += [folder / file for file in files]
        found += [folder / link for link in folders if (folder / link).is_symlink()]
    return sorted(path.relative_to(root).as_posix() for path in found)


def _refuse_to_guess(error: OSError) -> None:
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # another process has removed it meanwhile
        raise StoreError(
            f"{error.filename}: can't be listed: {error.strerror}. Check its permissions and the disk, then run the "
            f"same command again."
        ) from error


def remove(root: Path, paths: list[str]) -> None:
    """Delete some files of a store, and the folders that this leaves empty; another process may do so too."""
    with disk_errors(root):
        for path in paths:
            (root / path).unlink(missing_ok=True)
        for folder in sorted({parent for path in paths for parent in (root / path).parents}, reverse=True):
            if folder.is_relative_to(root) and folder != root:
                _remove_if_empty(folder)


def _write_temporary(target: Path, data: bytes | memoryview) -> Path:
    return _fill_temporary(target, lambda file: _write_all(file, data))


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    file.write(data)


def _fill_temporary(target: Path, fill: Callable[[BinaryIO], None]) -> Path:
    _make_folder(target.parent)
    temporary = target.with_name(temporary_name(target.name))
    try:
        with temporary.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
    except Exception:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _replace(temporary: Path, target: Path) -> None:
    try:
        os.replace(temporary, target)
    except IsADirectoryError:
        temporary.unlink()
        raise not_plain(target) from None


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
        if error.errno == errno.ELOOP:
            raise StoreWriteFailed(f"{error.filename}: {reason}, then run the same command again.") from None
        if error.errno == errno.ENOSPC:
            reason += f" ({shutil.disk_usage(_existing(root)).free:,} bytes free)"
        raise StoreWriteFailed(
            f"{root}: can't write: {reason}. Nothing that was finished is lost: make room or mend the cause, "
            f"then run the same command again to go on."
        ) from error


def _existing(path: Path) -> Path:
    return next(folder for folder in [path, *path.absolute().parents] if folder.exists())
