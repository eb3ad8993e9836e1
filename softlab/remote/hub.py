"""A hub's repository as a backend, through fsspec: read only, as a hub has its own ways to publish."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from softlab.errors import AccessDenied, InvalidOption, ObjectMissing, RemoteFailed
from softlab.remote.remote import ObjectInfo, Tagged, TooLarge

Result = TypeVar("Result")


class HubBackend:
    """See `Backend`."""

    def __init__(self, url: str) -> None:
        """Raises InvalidOption where the libraries aren't installed."""
        self._url = url
        self._files, self._root = _open(url)

    def __reduce__(self) -> tuple[Any, ...]:
        return HubBackend, (self._url,)

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        where = f"{self._url}/{path}"
        found = self._ask(lambda: self._files.info(f"{self._root}/{path}"), where)
        size = int(found["size"])
        if size > max_bytes:
            raise TooLarge(where, size, max_bytes)
        data: bytes = self._ask(lambda: self._files.cat_file(f"{self._root}/{path}", start=0, end=size + 1), where)
        if len(data) != size:
            raise RemoteFailed(f"{where}: gave {len(data):,} of {size:,} bytes. Try again.")
        return Tagged(data=data, tag=str(found.get("blob_id", "")))

    def size(self, path: str) -> int | None:
        try:
            found = self._ask(lambda: self._files.info(f"{self._root}/{path}"), f"{self._url}/{path}")
        except ObjectMissing:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def list_objects(self, folder: str) -> Iterator[ObjectInfo]:
        found = self._ask(lambda: self._files.find(f"{self._root}/{folder}", detail=True), f"{self._url}/{folder}")
        for path, each in found.items():
            yield ObjectInfo(
                path=path.removeprefix(self._root).lstrip("/"),
                bytes=int(each["size"]),
                modified=datetime.fromtimestamp(0, UTC),  # a hub keeps no dates of files without a request for each
            )

    def list_folders(self, folder: str) -> list[str]:
        try:
            found = self._ask(lambda: self._files.ls(f"{self._root}/{folder}", detail=True), f"{self._url}/{folder}")
        except ObjectMissing:
            return []
        return [each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]

    def write(self, path: str, data: bytes) -> None:
        self._refuse()

    def create(self, path: str, data: bytes) -> bool:
        self._refuse()

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        self._refuse()

    def delete(self, paths: list[str]) -> None:
        self._refuse()

    def copy(self, source: str, target: str) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InvalidOption(
            f"{self._url}: hubs are only read. Publish into a folder, and upload that with the hub's own tools."
        )

    def _ask(self, request: Callable[[], Result], where: str) -> Result:
        try:
            return request()
        except (FileNotFoundError, IsADirectoryError):
            raise ObjectMissing(f"{where}: is missing.") from None
        except PermissionError:
            raise AccessDenied(f"{where}: access is denied. Log in with the hub's own tools.") from None
        except OSError as error:  # the hub's own errors are all of this kind
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (401, 403):
                raise AccessDenied(f"{where}: access is denied ({status}). Log in with the hub's own tools.") from None
            raise RemoteFailed(f"{where}: the hub can't be reached or fails. Try again.") from None


def _open(url: str) -> tuple[Any, str]:
    """The hub's file system, and the path in it that the URL means."""
    try:
        import fsspec

        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InvalidOption(f"{url}: needs huggingface_hub. Install it: pip install 'softlab[hub]'.") from error
    return files, root.rstrip("/")
