"""A folder on a disk, as a backend: what an object store promises, kept by links, renames and a lock."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from softlab.disk import create_file, is_temporary, list_files, remove, write_whole
from softlab.errors import AccessDenied, ObjectMissing, RemoteFailed, StoreBusy
from softlab.identity import digest_of
from softlab.locks import waiting_for
from softlab.remote.remote import MAX_SINGLE_BYTES, ObjectInfo, Tagged, TooLarge

LOCK_NAME = ".softlab-lock"
"""Held while an object is replaced; the only file in the folder that is no object."""


class FolderBackend:
    """See `Backend`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        where = self._root / path
        with self._read_errors(path), _opened(where) as descriptor:
            size = _size_of_file(os.fstat(descriptor))
            if size > max_bytes:
                raise TooLarge(where, size, max_bytes)
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(size)
        return Tagged(data=data, tag=digest_of(data))

    def size(self, path: str) -> int | None:
        try:
            with self._read_errors(path):
                return _size_of_file((self._root / path).stat())
        except ObjectMissing:
            return None

    def write(self, path: str, data: bytes) -> None:
        write_whole(self._root, {path: data})

    def create(self, path: str, data: bytes) -> bool:
        try:
            create_file(self._root / path, data)
        except StoreBusy:
            return False
        return True

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        with waiting_for(self._root / LOCK_NAME):
            try:
                found = self.read(path, max_bytes=MAX_SINGLE_BYTES).tag
            except ObjectMissing:
                return False
            if found != tag:
                return False
            self.write(path, data)
        return True

    def list_objects(self, folder: str) -> Iterator[ObjectInfo]:
        for path in list_files(self._root / folder):
            if not is_temporary(path) and folder + path != LOCK_NAME:
                try:
                    found = (self._root / folder / path).stat()
                except FileNotFoundError:
                    continue  # deleted while it was listed
                yield ObjectInfo(
                    path=folder + path,
                    bytes=found.st_size,
                    modified=datetime.fromtimestamp(found.st_mtime, UTC),
                )

    def list_folders(self, folder: str) -> list[str]:
        try:
            with self._read_errors(folder), os.scandir(self._root / folder) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except ObjectMissing:
            return []

    def delete(self, paths: list[str]) -> None:
        remove(self._root, paths)

    def copy(self, source: str, target: str) -> None:
        self.write(target, self.read(source, max_bytes=MAX_SINGLE_BYTES).data)

    @contextmanager
    def _read_errors(self, path: str) -> Iterator[None]:
        where = self._root / path
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(f"{where}: is missing.") from None
        except PermissionError as error:
            raise AccessDenied(f"{where}: can't be read: {error.strerror}. Check its permissions.") from error
        except OSError as error:
            raise RemoteFailed(f"{where}: can't be read: {error.strerror}. Check the disk.") from error


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Its descriptor: another file may take its place at any moment."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _size_of_file(found: os.stat_result) -> int:
    """Raises FileNotFoundError for what is no file: a pipe, say, would be waited for."""
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError
    return found.st_size
