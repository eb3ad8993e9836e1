"""Where a store is written: what its writer asks of a place, in the same words for a folder and for an object store.

On an object store nothing is locked, and each object is there as a whole or not at all. What a lock keeps apart in a
folder is safe there for other reasons. The plan and each shard's record are created only where none is, so that of
several writers one is the first and the others see what it wrote. And nothing is swept, as another process may be about
to name it in a record.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from softlab.disk import create_file, list_files, read_whole, remove, temporary_name, write_filled, write_whole
from softlab.errors import InvalidOption, ObjectMissing, StoreBusy, StoreError
from softlab.identity import digest_of
from softlab.locks import exclusive, shared, waiting_for
from softlab.manifest import FileRecord
from softlab.plain_files import MAX_RECORD_BYTES
from softlab.remote.address import MISTYPED, SCHEMES, parse_address
from softlab.remote.conditions import honours_conditions
from softlab.remote.connect import connect
from softlab.remote.parallel import in_parallel
from softlab.remote.patient import patient
from softlab.remote.remote import Place, Remote, TooLarge

JOBS = 8
"""Objects that are read or written at once: of a shard's files, all of which are in memory."""

LOST_SLASH = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)", re.ASCII)
"""What is left of an address in a `Path`."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoreFiles(Protocol):
    """The files of a store that is being written; paths are relative, with forward slashes.

    Raises StoreWriteFailed or what a remote raises where the place refuses something.
    """

    locks: bool
    """Whether others are kept away, so that what no record names is nobody's, and what is there may be revised."""

    def read(self, path: str, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes | None:
        """None where there is no such file. Raises StoreError for a larger one."""

    def has(self, path: str) -> bool: ...

    def size(self, path: str) -> int | None:
        """None where there is no such file."""

    def sizes(self) -> Callable[[str], int | None]:
        """`size` for very many files: of one listing, where each question would take long."""

    def paths(self, folder: str = "") -> list[str]:
        """All files below a folder, sorted."""

    def begin(self, files: Mapping[str, bytes]) -> bool:
        """Write the files that a dump begins with, of which the last one says what it is. False, and nothing changed,
        where another process was first and the place shows it."""

    def write(self, files: Mapping[str, bytes]) -> None:
        """In place of what is there; the last one when the others are there."""

    def fill(self, path: str, write: Callable[[BinaryIO], None]) -> FileRecord:
        """Write one large file by and by, in place of what is there. Raises what `write` raises, and nothing is changed
        then."""

    def add(self, files: Mapping[str, bytes], *, check: Callable[[], None]) -> None:
        """Write what is either new or left over. `check` is called before left-over bytes are replaced, and raises
        where they aren't."""

    def create(self, path: str, data: bytes) -> bool:
        """Whether these bytes are there now; False, and nothing changed, where others are."""

    def remove(self, paths: list[str]) -> None:
        """The last one when the others are gone; one that is gone already is no error."""

    def each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Each item with what its work gave, in any order: several at once, where one takes long."""

    def hold(self, lock: str) -> AbstractContextManager[Callable[[], None]]:
        """Keep other processes from the place by this file, where files can be locked; call what it gives to let those
        in who `join`. Raises StoreBusy."""

    def join(self, lock: str) -> AbstractContextManager[None]:
        """Work there together with others. Raises StoreBusy."""

    def wait_for(self, lock: str) -> AbstractContextManager[None]:
        """Hold the place once others let it go."""


def place_of(out: str | Place) -> Place:
    """A folder, or the object store at an address, for a store to be written there. Raises InvalidOption for an address
    that can only be read, or is that of a published version."""
    if isinstance(out, Remote):
        return out
    text = str(out)
    if "://" not in text and Path(text).exists():
        return Path(out)
    text = LOST_SLASH.sub(r"\1://", text, count=1)
    if "://" not in text and not MISTYPED.match(text):
        return Path(out)
    address = parse_address(text)
    if address.is_read_only:
        raise InvalidOption(
            f"{text}: web servers and hubs are only read. Write the store into a folder or at an s3://, gs:// or az:// "
            f"address."
        )
    if address.name is not None:
        raise InvalidOption(
            f"{text}: is the address of a published version, and those are made by `softlab push`. Choose an address "
            f"without @{address.version}."
        )
    return patient(connect(address))


def files_at(place: Place) -> StoreFiles:
    return FolderFiles(place) if isinstance(place, Path) else RemoteFiles(place)


class FolderFiles:
    """See `StoreFiles`: written beside their place, fsync, rename; under a lock."""

    locks = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes | None:
        return read_whole(self._root / path, max_bytes=max_bytes)

    def has(self, path: str) -> bool:
        return (self._root / path).exists()

    def size(self, path: str) -> int | None:
        where = self._root / path
        return where.stat().st_size if where.is_file() else None

    def sizes(self) -> Callable[[str], int | None]:
        return self.size

    def paths(self, folder: str = "") -> list[str]:
        above = f"{folder}/" if folder else ""
        return [above + path for path in list_files(self._root / folder)]

    def begin(self, files: Mapping[str, bytes]) -> bool:
        *others, (path, data) = files.items()
        write_whole(self._root, dict(others))
        return self.create(path, data)

    def write(self, files: Mapping[str, bytes]) -> None:
        write_whole(self._root, files)

    def fill(self, path: str, write: Callable[[BinaryIO], None]) -> FileRecord:
        found: list[FileRecord] = []

        def write_and_hash(file: BinaryIO) -> None:
            write(file)
            file.flush()
            found.append(_record_of(path, file))

        write_filled(self._root / path, write_and_hash)
        return found[0]

    def add(self, files: Mapping[str, bytes], *, check: Callable[[], None]) -> None:
        write_whole(self._root, files)

    def create(self, path: str, data: bytes) -> bool:
        try:
            create_file(self._root / path, data)
        except StoreBusy:
            return False
        return True

    def remove(self, paths: list[str]) -> None:
        remove(self._root, paths)

    def each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        return ((item, work(item)) for item in items)

    def hold(self, lock: str) -> AbstractContextManager[Callable[[], None]]:
        return exclusive(self._root / lock)

    def join(self, lock: str) -> AbstractContextManager[None]:
        return shared(self._root / lock)

    def wait_for(self, lock: str) -> AbstractContextManager[None]:
        return waiting_for(self._root / lock)


class RemoteFiles:
    """See `StoreFiles`: each object in one request, those that must not be replaced with a condition."""

    locks = False

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def read(self, path: str, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes | None:
        try:
            return self._remote.read(path, max_bytes=max_bytes)
        except ObjectMissing:
            return None
        except TooLarge as error:
            raise StoreError(str(error)) from None

    def has(self, path: str) -> bool:
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        return self._remote.size(path)

    def sizes(self) -> Callable[[str], int | None]:
        return {each.path: each.bytes for each in self._remote.list_objects()}.get

    def paths(self, folder: str = "") -> list[str]:
        return [each.path for each in self._remote.list_objects(folder)]

    def begin(self, files: Mapping[str, bytes]) -> bool:
        """Its plan first: whoever comes second must not have replaced anything."""
        *others, (path, data) = files.items()
        if not honours_conditions(self._remote, probe=temporary_name(path)):
            raise InvalidOption(
                f"{self._remote}: this server replaces objects that are to be created only once, so that two dumps "
                f"could mix. Dump into a folder and `softlab push` it, or to a server that honours If-None-Match."
            )
        if not self._remote.create(path, data):
            return False
        self.write(dict(others))
        return True

    def write(self, files: Mapping[str, bytes]) -> None:
        items = list(files.items())
        for part in (items[:-1], items[-1:]):
            for _ in in_parallel(lambda file: self._remote.write(*file), part, jobs=JOBS):
                pass

    def fill(self, path: str, write: Callable[[BinaryIO], None]) -> FileRecord:
        """On this machine's disk first, and then in one request, for which all of it is in memory."""
        with tempfile.TemporaryFile(prefix="softlab-") as file:
            write(file)
            file.seek(0)
            data = file.read()
        self._remote.write(path, data)
        return FileRecord(path=path, bytes=len(data), blake3=digest_of(data))

    def add(self, files: Mapping[str, bytes], *, check: Callable[[], None]) -> None:
        def put(file: tuple[str, bytes]) -> None:
            if not self._remote.create(*file):
                check()
                self._remote.write(*file)

        for _ in in_parallel(put, list(files.items()), jobs=JOBS):
            pass

    def create(self, path: str, data: bytes) -> bool:
        return self._remote.create(path, data)

    def remove(self, paths: list[str]) -> None:
        for part in (paths[:-1], paths[-1:]):
            if part:
                self._remote.delete(part)

    def each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        return in_parallel(work, items, jobs=JOBS)

    def hold(self, lock: str) -> AbstractContextManager[Callable[[], None]]:
        return nullcontext(lambda: None)

    def join(self, lock: str) -> AbstractContextManager[None]:
        return nullcontext()

    def wait_for(self, lock: str) -> AbstractContextManager[None]:
        return nullcontext()


def _record_of(path: str, file: BinaryIO) -> FileRecord:
    """Of what was written to a file; it is mapped for that, and not read into memory."""
    size = file.seek(0, os.SEEK_END)
    with open(file.name, "rb") as again, mmap(again.fileno(), size, prot=PROT_READ) as mapped:
        return FileRecord(path=path, bytes=size, blake3=digest_of(mapped))
