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
from softlab.remote.address import WEB
from softlab.remote.clients import READING, Client, Clients
from softlab.remote.failures import explain
from softlab.remote.remote import ObjectInfo, Tagged, TooLarge

Result = TypeVar("Result")

PAUSES_S = (0.2, 0.4, 0.8)
"""Before a read whose bytes broke off is tried again; requests that fail are tried again by obstore."""

COPIED_BYTES = 256 << 20
"""Of an object of any size that is copied on a server, which tells nothing meanwhile: as many as it is waited for."""


class BrokenOff(Exception):
    """An object's bytes ended early."""

    def __init__(self, num_bytes: int, *, is_slow: bool) -> None:
        super().__init__()
        self.num_bytes, self.is_slow = num_bytes, is_slow

    @property
    def patience_s(self) -> float:
        """From its first time, for as long as it is asked for again. obstore has asked for the rest where it stopped,
        so that of an object of any size more silence is no better."""
        return READING.retry_s if self.is_slow else READING.for_bytes(self.num_bytes).retry_s


class ObjectStoreBackend:
    """See `Backend`. Connects when it is first asked; may be asked by several threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clients = Clients(url)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStoreBackend, (self._url,)

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        start = time.monotonic()
        for times, pause_s in enumerate((*PAUSES_S, None), start=1):
            try:
                return self._read_once(path, max_bytes=max_bytes)
            except BrokenOff as error:
                if pause_s is None or time.monotonic() - start > error.patience_s:
                    reason = "came too slowly" if error.is_slow else "broke off"
                    often = f", {times} times" if times > 1 else ""
                    raise RemoteFailed(
                        f"{self._url}/{path}: its {error.num_bytes:,} bytes {reason}{often}. Try again; if it stays "
                        f"so, check the server."
                    ) from None
            time.sleep(pause_s)
        raise AssertionError("the last turn has no pause after it")

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
            return self._put_if(path, data, mode=_condition(tag))
        except ObjectMissing:
            return False

    def list_objects(self, folder: str) -> Iterator[ObjectInfo]:
        pages = self._ask(lambda: list(obstore.list(self._listing(), folder or None)), folder)
        for page in pages:
            for each in page:
                yield ObjectInfo(path=each["path"], bytes=each["size"], modified=each["last_modified"])

    def list_folders(self, folder: str) -> list[str]:
        found = self._ask(lambda: obstore.list_with_delimiter(self._listing(), folder or None), folder)
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
        return self._clients.reading(num_bytes)

    def _listing(self) -> Client:
        self._refuse_web()
        return self._clients.reading()

    def _changing(self, num_bytes: int = 0) -> Client:
        self._refuse_web()
        return self._clients.changing(num_bytes)

    def _refuse_web(self) -> None:
        if self._url.startswith(WEB):
            raise InvalidOption(
                f"{self._url}: web servers are only read, and don't list what they hold. Choose an object store or a "
                f"folder."
            )

    def _read_once(self, path: str, *, max_bytes: int) -> Tagged:
        found = self._get(path, max_bytes=max_bytes)
        try:
            data = found.bytes()
        except exceptions.BaseError as error:
            raise BrokenOff(int(found.meta["size"]), is_slow="kind: Timeout" in str(error)) from None
        return Tagged(data=data.to_bytes(), tag=_tag(found.meta))

    def _get(self, path: str, *, max_bytes: int, waited_for: int = 0) -> Any:
        """Its bytes are still to come; they are waited for as long as its size needs, whatever would be allowed."""
        client = self._reading(waited_for)
        found = self._ask(lambda: obstore.get(client, path), path)
        size = found.meta["size"]
        if size > max_bytes:
            raise TooLarge(f"{self._url}/{path}", size, max_bytes)
        if waited_for or self._reading(size) is client:
            return found
        return self._get(path, max_bytes=max_bytes, waited_for=size)

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


def _tag(meta: Any) -> str:
    """What `obstore.put` asks for: Google compares an object's generation, the others its entity tag. Empty where the
    server gives none."""
    return f"{meta['e_tag']}\n{meta['version'] or ''}" if meta["e_tag"] else ""


def _condition(tag: str) -> dict[str, str]:
    e_tag, _, version = tag.partition("\n")
    return {"e_tag": e_tag} | ({"version": version} if version else {})


def _explained(error: Exception, where: str) -> RemoteError:
    return explain(str(error), where, is_missing=isinstance(error, exceptions.NotFoundError | FileNotFoundError))
