"""A hub's repository as a backend, through fsspec: read only, as a hub has its own ways to publish."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from softlab.errors import AccessDenied, InvalidOption, ObjectMissing, RemoteError, RemoteFailed
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
        found = self._ask(lambda: self._info_of_file(path), path)
        size = int(found["size"])
        if size > max_bytes:
            raise TooLarge(where, size, max_bytes)
        data: bytes = self._ask(lambda: self._files.cat_file(f"{self._root}/{path}", start=0, end=size + 1), path)
        if len(data) != size:
            raise RemoteFailed(f"{where}: gave {len(data):,} of {size:,} bytes. Try again.")
        return Tagged(data=data, tag=str(found.get("blob_id", "")))

    def size(self, path: str) -> int | None:
        try:
            return int(self._ask(lambda: self._info_of_file(path), path)["size"])
        except ObjectMissing:
            return None

    def list_objects(self, folder: str) -> Iterator[ObjectInfo]:
        try:
            found = self._ask(lambda: self._files.find(f"{self._root}/{folder}", detail=True), folder)
        except ObjectMissing:
            return
        for whole, each in found.items():
            path = whole.removeprefix(self._root).lstrip("/")
            if path.startswith(folder):  # what is found below a file is the file
                yield ObjectInfo(
                    path=path,
                    bytes=int(each["size"]),
                    modified=datetime.fromtimestamp(0, UTC),  # a hub keeps no dates of files without a request for each
                )

    def list_folders(self, folder: str) -> list[str]:
        try:
            found = self._ask(lambda: self._files.ls(f"{self._root}/{folder}", detail=True), folder)
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

    def _info_of_file(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._files.info(f"{self._root}/{path}")
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return found

    def _refuse(self) -> NoReturn:
        raise InvalidOption(
            f"{self._url}: hubs are only read. Publish into a folder, and upload that with the hub's own tools."
        )

    def _ask(self, request: Callable[[], Result], path: str) -> Result:
        where, failures = f"{self._url}/{path}".rstrip("/"), _failures_of_hubs()
        try:
            return request()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(f"{where}: is missing.") from None
        except PermissionError:
            raise AccessDenied(f"{where}: access is denied. Log in with the hub's own tools.") from None
        except failures as error:
            raise _explained(error, where) from None
        except ValueError:
            raise InvalidOption(
                f"{self._url}: is no place on a hub. Write it as hf://datasets/OWNER/REPOSITORY/FOLDER."
            ) from None


def _explained(error: Exception, where: str) -> RemoteError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 404:
        return ObjectMissing(f"{where}: is missing.")
    if status in (401, 403):
        return AccessDenied(f"{where}: access is denied ({status}). Log in with the hub's own tools.")
    reason = f"the hub answers {status}" if status else "the hub can't be reached"
    return RemoteFailed(f"{where}: {reason}. Try again; if it stays so, see the hub's own status page.")


def _failures_of_hubs() -> tuple[type[Exception], ...]:
    """What the hub's library raises, and the HTTP library that its version is built on, which is named nowhere else."""
    try:
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        return (OSError,)
    return (OSError, *HfHubHTTPError.__bases__)


def _open(url: str) -> tuple[Any, str]:
    """The hub's file system, and the path in it that the URL means."""
    try:
        import fsspec

        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InvalidOption(f"{url}: needs huggingface_hub. Install it: pip install 'softlab[hub]'.") from error
    return files, root.rstrip("/")
