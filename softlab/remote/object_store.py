"""Object stores and web servers as backends, through obstore: S3 and what speaks like it, Google, Azure, plain HTTP.

Credentials come from where the clouds' own tools take them: environment, profile, machine role. They are in no address
and no message, so what a server answers is never shown as it is: only its status and its error code.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, TypeVar

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from softlab.errors import AccessDenied, InvalidOption, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote.remote import ObjectInfo, Tagged, TooLarge

Result = TypeVar("Result")
Store = S3Store | GCSStore | AzureStore | HTTPStore

ATTEMPTS = 4
"""Of a read whose bytes break off, on top of obstore's own retries of requests that fail."""

FIRST_PAUSE_S = 0.2
"""Doubled after each attempt."""

CLIENT_OPTIONS: dict[str, Any] = {"connect_timeout": "10s", "timeout": "300s", "user_agent": "softlab"}
RETRIES: dict[str, Any] = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5)},
}
CHUNK_BYTES = 1 << 20


class ObjectStoreBackend:
    """See `Backend`. Connects when it is first asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: Store | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStoreBackend, (self._url,)

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        pause_s = FIRST_PAUSE_S
        for _ in range(ATTEMPTS - 1):
            with suppress(RemoteFailed):
                return self._read_once(path, max_bytes=max_bytes)
            time.sleep(pause_s)
            pause_s *= 2
        return self._read_once(path, max_bytes=max_bytes)

    def size(self, path: str) -> int | None:
        try:
            return int(self._ask(lambda: obstore.head(self._store, path), path)["size"])
        except ObjectMissing:
            return None

    def write(self, path: str, data: bytes) -> None:
        self._ask(lambda: obstore.put(self._store, path, data, use_multipart=False), path)

    def create(self, path: str, data: bytes) -> bool:
        return self._put_if(path, data, mode="create")

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        return self._put_if(path, data, mode={"e_tag": tag})

    def list_objects(self, folder: str) -> Iterator[ObjectInfo]:
        pages = self._ask(lambda: list(obstore.list(self._store, folder or None)), folder)
        for page in pages:
            for each in page:
                yield ObjectInfo(path=each["path"], bytes=each["size"], modified=each["last_modified"])

    def list_folders(self, folder: str) -> list[str]:
        found = self._ask(lambda: obstore.list_with_delimiter(self._store, folder or None), folder)
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            with suppress(ObjectMissing):
                self._ask(lambda path=path: obstore.delete(self._store, path), path)  # type: ignore[misc]

    def copy(self, source: str, target: str) -> None:
        self._ask(lambda: obstore.copy(self._store, source, target), source)

    @property
    def _store(self) -> Store:
        if self._opened is None:
            self._opened = _open(self._url)
        return self._opened

    def _read_once(self, path: str, *, max_bytes: int) -> Tagged:
        return self._ask(lambda: self._read_bounded(path, max_bytes), path)

    def _read_bounded(self, path: str, max_bytes: int) -> Tagged:
        where = f"{self._url}/{path}"
        found = obstore.get(self._store, path)
        size = found.meta["size"]
        if size > max_bytes:
            raise TooLarge(where, size, max_bytes)
        data = bytearray()
        for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            data += memoryview(chunk)
            if len(data) > size:
                break
        if len(data) != size:
            raise RemoteFailed(
                f"{where}: gave {len(data):,} of {size:,} bytes. Try again; if it stays so, it is broken."
            )
        return Tagged(data=bytes(data), tag=found.meta["e_tag"] or "")

    def _put_if(self, path: str, data: bytes, *, mode: Any) -> bool:
        try:
            self._ask(lambda: obstore.put(self._store, path, data, mode=mode, use_multipart=False), path)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            return False
        return True

    def _ask(self, request: Callable[[], Result], path: str) -> Result:
        try:
            return request()
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explain(error, f"{self._url}/{path}".rstrip("/")) from None

    def _explain(self, error: Exception, where: str) -> RemoteError | InvalidOption:
        text, code = str(error).partition("Debug source:")[0], _code_of(str(error))
        if code == "NoSuchBucket":
            return ObjectMissing(f"{where}: there is no such bucket. Correct the address, or create the bucket.")
        if isinstance(error, exceptions.NotFoundError | FileNotFoundError):
            return ObjectMissing(f"{where}: is missing.")
        if isinstance(error, exceptions.UnauthenticatedError) or re.search(r"\b401\b", text):
            return AccessDenied(
                f"{where}: credentials are missing or not accepted (401{_shown(code)}). Give them in the environment "
                f"or profile of your cloud's own tools."
            )
        if isinstance(error, exceptions.PermissionDeniedError) or re.search(r"\b403\b", text):
            return AccessDenied(
                f"{where}: access is denied (403{_shown(code)}). Check that your credentials are right, have not "
                f"expired and allow this."
            )
        if isinstance(error, exceptions.NotSupportedError | NotImplementedError):
            return InvalidOption(f"{where}: this kind of place can only be read. Choose an object store or a folder.")
        return RemoteFailed(f"{where}: {_reason(text, code)}. Try again; if it stays so, check the server.")


def _open(url: str) -> Store:
    scheme = url.partition("://")[0]
    kinds: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore, "http": HTTPStore, "https": HTTPStore}
    options: dict[str, Any] = {"client_options": dict(CLIENT_OPTIONS), "retry_config": RETRIES}
    # Client options replace those that obstore would take from the environment.
    if scheme == "http" or os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"):
        options["client_options"]["allow_http"] = True
    if scheme == "s3":
        options |= _s3_options()
    try:
        opened: Store = kinds[scheme].from_url(url, **options)
    except (exceptions.BaseError, ValueError) as error:
        raise InvalidOption(f"{url}: {_reason(str(error), None)}. Correct the address or the environment.") from None
    return opened


def _s3_options() -> dict[str, Any]:
    """A checksum that the server compares on every upload; and profiles, which only boto3 reads."""
    options: dict[str, Any] = {"checksum_algorithm": "SHA256"}
    uses_profile = not any(name in os.environ for name in ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"))
    if uses_profile and find_spec("boto3") is not None:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider

        session = boto3.Session()
        if session.get_credentials() is not None:
            options["credential_provider"] = Boto3CredentialProvider(session)
    return options


def _code_of(text: str) -> str | None:
    """The error code in what S3, Google and Azure answer."""
    found = re.search(r"<Code>([A-Za-z]{1,60})</Code>", text)
    return found and found[1]


def _shown(code: str | None) -> str:
    return f", {code}" if code else ""


def _reason(text: str, code: str | None) -> str:
    """The kind of failure, without anything that a server wrote."""
    status = re.search(r"\b(4\d\d|5\d\d)\b [A-Z]", text)
    if status:
        return f"the server answers {status[1]}{_shown(code)}"
    known = {
        "timed out": "no answer in time",
        "timeout": "no answer in time",
        "connect": "can't be reached",
        "dns": "its name can't be resolved",
        "body": "the answer broke off",
    }
    return next((reason for sign, reason in known.items() if sign in text.lower()), "the request failed")
