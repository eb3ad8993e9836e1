"""A folder of objects: what is asked of it, in the same words wherever it lies."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from softlab.errors import InvalidOption, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote.address import UNSAFE, WEB

MAX_SINGLE_BYTES = 5 << 30
"""Of one object: every object is put in one request, so that it is there as a whole or not at all, and no parts of it
can be left behind. S3 takes no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """What a listing says about an object."""

    path: str
    """Below the folder that was listed from."""

    bytes: int
    modified: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Tagged:
    """An object's bytes, and what changes whenever they do."""

    data: bytes
    tag: str


class TooLarge(RemoteError):
    """An object has more bytes than were asked for; it was not read, and asking again would not help."""

    def __init__(self, where: object, size: int, max_bytes: int) -> None:
        super().__init__(f"{where}: has {size:,} bytes, expected at most {max_bytes:,}. Get it from another place.")
        self.size = size


class Backend(Protocol):
    """How one kind of place is asked; paths are whole ones, below its root.

    Every method may raise AccessDenied and RemoteFailed; those that read raise ObjectMissing where nothing is there.
    A method that a kind of place can't do raises InvalidOption.
    """

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        """Raises TooLarge for an object of over `max_bytes`, without having held more than that."""

    def size(self, path: str) -> int | None:
        """None where there is no object."""

    def write(self, path: str, data: bytes) -> None: ...

    def create(self, path: str, data: bytes) -> bool:
        """False, and nothing changed, where an object is already there."""

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        """False, and nothing changed, where the object isn't the tagged one any more."""

    def list_objects(self, folder: str) -> Iterable[ObjectInfo]: ...

    def list_folders(self, folder: str) -> list[str]: ...

    def delete(self, paths: list[str]) -> None:
        """Those that aren't there are none to it."""

    def copy(self, source: str, target: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Remote:
    """A folder of objects. Can be used by several threads, and sent to other processes, which connect anew.

    Paths are relative and plain: their parts are names, with no `..` among them. Raises, beside what each method says,
    AccessDenied where rights are missing or credentials wrong, and RemoteFailed where a server can't be reached or
    fails again and again.
    """

    root: str
    """As an address, without credentials: it may be printed."""

    backend: Backend = field(repr=False, compare=False)
    folder: str = ""
    """Below the root of the backend; empty, or with a slash at its end."""

    def __str__(self) -> str:
        return f"{self.root}/{self.folder}".rstrip("/")

    def __truediv__(self, path: str) -> str:
        """The address of an object, for messages."""
        return f"{self}/{path}"

    @property
    def can_list(self) -> bool:
        return not self.root.startswith(WEB)

    def within(self, folder: str) -> "Remote":
        """A folder in this one."""
        return Remote(self.root, self.backend, f"{self._whole(folder)}/")

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """Raises ObjectMissing, and TooLarge for an object of over `max_bytes`, which is never held."""
        return self.read_tagged(path, max_bytes=max_bytes).data

    def read_tagged(self, path: str, *, max_bytes: int) -> Tagged:
        """The same with what `replace` needs."""
        return self.backend.read(self._whole(path), max_bytes=max_bytes)

    def size(self, path: str) -> int | None:
        """In bytes; None where there is no such object."""
        return self.backend.size(self._whole(path))

    def write(self, path: str, data: bytes) -> None:
        """In place of what is there; only for what is the same whoever writes it."""
        self.backend.write(self._whole(path), _checked(data, self / path))

    def create(self, path: str, data: bytes) -> bool:
        """Whether this very object is there now: of several that are created at once, one is.

        `data` must hold something that no other writer's has, because after a lost reply it is read back to learn whose
        it is.
        """
        whole = self._whole(path)
        try:
            if self.backend.create(whole, _checked(data, self / path)):
                return True
        except RemoteFailed:
            if self._holds(path, data) is None:
                raise
        return bool(self._holds(path, data))

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        """Whether it took the place of the object that was read with this tag; `data` as in `create`. False too where
        it did, the answer was lost, and another has taken its place since."""
        whole = self._whole(path)
        try:
            if self.backend.replace(whole, _checked(data, self / path), tag=tag):
                return True
        except RemoteFailed:
            if not self._holds(path, data):
                raise
        return bool(self._holds(path, data))

    def list_objects(self, folder: str = "") -> list[ObjectInfo]:
        """All objects in a folder and below, their paths relative to this one, sorted."""
        found = self.backend.list_objects(self._whole(folder) + "/" if folder else self.folder)
        cut = len(self.folder)
        return sorted(
            (ObjectInfo(path=each.path[cut:], bytes=each.bytes, modified=each.modified) for each in found),
            key=lambda each: each.path,
        )

    def list_folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder, sorted; some servers keep empty ones."""
        return sorted(self.backend.list_folders(self._whole(folder) + "/" if folder else self.folder))

    def delete(self, paths: Iterable[str]) -> None:
        self.backend.delete([self._whole(path) for path in paths])

    def copy(self, source: str, target: str) -> None:
        """On the server. Raises ObjectMissing."""
        self.backend.copy(self._whole(source), self._whole(target))

    def _holds(self, path: str, data: bytes) -> bool | None:
        """Whether the object is these bytes; None where there is none."""
        try:
            return self.read(path, max_bytes=len(data)) == data
        except TooLarge:
            return False
        except ObjectMissing:
            return None

    def _whole(self, path: str) -> str:
        parts = path.split("/")
        if not all(part.isprintable() and part not in ("", ".", "..") and not UNSAFE & set(part) for part in parts):
            raise InvalidOption(f"{self}: {path!r} is not a path of plain names below it.")
        return self.folder + path


def _checked(data: bytes, where: str) -> bytes:
    if len(data) > MAX_SINGLE_BYTES:
        raise InvalidOption(
            f"{where}: would have {len(data):,} bytes, and objects hold at most {MAX_SINGLE_BYTES:,}. "
            f"Dump with a smaller `dump.shard_rows`."
        )
    return data


Place = Path | Remote
"""Where the files of a store lie. `place / path` names one in a message, and is its path on a local disk."""
