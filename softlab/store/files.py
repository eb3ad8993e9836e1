"""A store's files as its manifest records them: written whole, and never read without being compared."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import BinaryIO

from softlab.errors import DamagedStore, ObjectMissing, StoreError
from softlab.identity import digest_of
from softlab.manifest import FileRecord
from softlab.plain_files import open_plain
from softlab.remote.remote import Place, Remote, TooLarge
from softlab.store.place import files_at


def write_files(root: Place, files: Mapping[str, bytes]) -> tuple[FileRecord, ...]:
    """Write some files so that each is whole or absent, on disk when this returns; their records in the same order."""
    files_at(root).write(files)
    return records_of(files)


def records_of(files: Mapping[str, bytes]) -> tuple[FileRecord, ...]:
    """What a manifest says about some files, in their order."""
    return tuple(FileRecord(path=path, bytes=len(data), blake3=digest_of(data)) for path, data in files.items())


def read_file(place: Place, record: FileRecord, *, next_step: str | None = None) -> bytes:
    """The bytes of one file. Raises DamagedStore, with the next step, unless they are exactly the recorded ones; and
    what a remote raises."""
    where = place / record.path
    next_step = next_step or f"`softlab verify {place}` lists all damage; get those files again, or dump again."
    with _damage_told(where, record, next_step):
        data = _read_local(place / record.path, record) if isinstance(place, Path) else _read_remote(place, record)
    _check(data, record, where, next_step)
    return data


def map_file(root: Path, record: FileRecord, *, next_step: str | None = None) -> mmap:
    """The same of a large file on this machine, which isn't read into memory; it may not be empty."""
    where = root / record.path
    next_step = next_step or f"`softlab verify {root}` lists all damage; get those files again, or dump again."
    with _damage_told(where, record, next_step), _opened(where, record) as file:
        mapped = mmap(file.fileno(), record.bytes, prot=PROT_READ)
    _check(mapped, record, where, next_step)
    return mapped


@contextmanager
def _damage_told(where: str | Path, record: FileRecord, next_step: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ObjectMissing):
        raise DamagedStore(f"{where}: is missing. {next_step}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedStore(f"{where}: is a link or no plain file, as no file of a store is. {next_step}") from None
        raise StoreError(f"{where}: can't be read: {error.strerror}. Check its permissions.") from error
    except TooLarge as error:
        raise _wrong_size(where, error.size, record, next_step) from error


def _check(data: bytes | mmap, record: FileRecord, where: str | Path, next_step: str) -> None:
    if len(data) != record.bytes:
        raise _wrong_size(where, len(data), record, next_step)
    if digest_of(data) != record.blake3:
        raise DamagedStore(f"{where}: its bytes are not the recorded ones. {next_step}")


def _read_local(path: Path, record: FileRecord) -> bytes:
    with _opened(path, record) as file:
        return file.read(record.bytes)


@contextmanager
def _opened(path: Path, record: FileRecord) -> Iterator[BinaryIO]:
    """Never more than is recorded, and never from a link, a pipe or a device, which a store that was unpacked from an
    archive may hold."""
    with open(open_plain(path, os.O_RDONLY), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != record.bytes:
            raise TooLarge(path, size, record.bytes)
        yield file


def _read_remote(remote: Remote, record: FileRecord) -> bytes:
    """Read once more if its bytes are wrong: they may have been changed on their way."""
    data = remote.read(record.path, max_bytes=record.bytes)
    if len(data) == record.bytes and digest_of(data) != record.blake3:
        data = remote.read(record.path, max_bytes=record.bytes)
    return data


def _wrong_size(where: object, size: int, record: FileRecord, next_step: str) -> DamagedStore:
    return DamagedStore(f"{where}: has {size:,} bytes, recorded are {record.bytes:,}. {next_step}")


def hash_matches(root: Path, record: FileRecord) -> bool:
    """Whether a file is a plain file with exactly the recorded bytes."""
    try:
        read_file(root, record)
    except StoreError:
        return False
    return True
