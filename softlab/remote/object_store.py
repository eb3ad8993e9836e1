"""Object stores and web servers as backends, through obstore: S3 and what speaks like it, Google, Azure, plain HTTP.

No message repeats what a server said: see failures.py.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import obstore
from obstore import exceptions

from softlab.errors import InvalidOption, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote.clients import Client, Clients
from softlab.remote.failures import explain
from softlab.remote.remote import ObjectInfo, Tagged, TooLarge

Result = TypeVar("Result")

PAUSES_S = (0.2, 0.4, 0.8)
"""Before a read whose bytes broke off is tried again; requests that fail are tried again by obstore."""

COPIED_BYTES = 256 << 20
"""Of an object of any size that is copied on a server, which tells nothing meanwhile: as many as it is waited for."""


class BrokenOff(RemoteFailed):
    """An object's bytes ended early."""


class ObjectStoreBackend:
    """See `Backend`. Connects when it is first asked; may be asked by several threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clients = Clients(url)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStoreBackend, (self._url,)

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        for pause_s in PAUSES_S:
            with suppress(BrokenOff):
                return self._read_once(path, max_bytes=max_bytes)
            time.sleep(pause_s)
        return self._read_once(path, max_bytes=max_bytes)

    def size(self, path: str) -> int | None:
        try:
            return int(self._ask(lambda: obstore.head(self._reading(), path), path)["size"])
        except ObjectMissing:
            return None

    def write(self, path: str, data: bytes) -> None:
        self._put(path, data, mode="overwrite")

    def create(self, path: str, data: bytes) -> bool:
        return self._put_if(path, data, mode="create")

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        if not tag:
            raise RemoteFailed(
                f"{self._url}/{path}: the server gives no entity tags, without which nothing is replaced safely. "
                f"Choose another server."
            )
        try:
            return self._put_if(path, data, mode={"e_tag": tag})
        except ObjectMissing:
            return False

    def list_objects(self, folder: str) -> Iterator[ObjectInfo]:
        pages = self._ask(lambda: list(obstore.list(self._changing(), folder or None)), folder)
        for page in pages:
            for each in page:
                yield ObjectInfo(path=each["path"], bytes=each["size"], modified=each["last_modified"])

    def list_folders(self, folder: str) -> list[str]:
        found = self._ask(lambda: obstore.list_with_delimiter(self._changing(), folder or None), folder)
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]

    def delete(self, paths: list[str]) -> None:
        """In few requests where the store takes many at a time."""
        try:
            self._ask(lambda: obstore.delete(self._changing(), paths), "")
        except ObjectMissing:
            for path in paths:
                with suppress(ObjectMissing):
                    self._ask(lambda path=path: obstore.delete(self._changing(), path), path)  # type: ignore[misc]

    def copy(self, source: str, target: str) -> None:
        self._ask(lambda: obstore.copy(self._changing(COPIED_BYTES), source, target), source)

    def _reading(self, num_bytes: int = 0) -> Client:
        return self._clients.waiting_for(num_bytes)

    def _changing(self, num_bytes: int = 0) -> Client:
        """Also for lists: neither is asked of web servers."""
        if self._url.startswith("http"):
            raise InvalidOption(
                f"{self._url}: web servers are only read, and don't list what they hold. Choose an object store or a "
                f"folder."
            )
        return self._clients.waiting_for(num_bytes)

    def _read_once(self, path: str, *, max_bytes: int) -> Tagged:
        where = f"{self._url}/{path}"
        found = self._ask(lambda: obstore.get(self._reading(max_bytes), path), path)
        size = found.meta["size"]
        if size > max_bytes:
            raise TooLarge(where, size, max_bytes)
        try:
            data = found.bytes()
        except exceptions.BaseError as error:
            reason = "came too slowly" if "kind: Timeout" in str(error) else "broke off"
            raise BrokenOff(
                f"{where}: its {size:,} bytes {reason}, {1 + len(PAUSES_S)} times. Try again; if it stays so, check "
                f"the server."
            ) from None
        return Tagged(data=data.to_bytes(), tag=found.meta["e_tag"] or "")

    def _put_if(self, path: str, data: bytes, *, mode: Any) -> bool:
        try:
            self._put(path, data, mode=mode)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            return False
        return True

    def _put(self, path: str, data: bytes, *, mode: Any) -> None:
        size = len(data)
        self._ask(lambda: obstore.put(self._changing(size), path, data, mode=mode, use_multipart=False), path)

    def _ask(self, request: Callable[[], Result], path: str) -> Result:
        try:
            return request()
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise _explained(error, f"{self._url}/{path}".rstrip("/")) from None


def _explained(error: Exception, where: str) -> RemoteError:
    return explain(str(error), where, is_missing=isinstance(error, exceptions.NotFoundError | FileNotFoundError))
