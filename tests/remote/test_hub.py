import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import fsspec
import huggingface_hub
import pytest

from softlab.errors import AccessDenied, InvalidOption, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.hub import HubBackend
from softlab.remote.remote import Remote
from softlab.testing.remotes import ListContract, ReadOnlyContract
from tests.servers.faulty import FaultyServer, answering, running_faulty


class HubContract(ListContract, ReadOnlyContract):
    """Hubs are file systems of fsspec: others of its file systems stand for them."""

    url: str

    @pytest.fixture
    def holding(self, tmp_path: Path) -> Callable[[Mapping[str, bytes]], Remote]:
        url = self.url.format(folder=tmp_path)

        def hold(objects: Mapping[str, bytes]) -> Remote:
            files, root = fsspec.core.url_to_fs(url)
            if files.exists(root):
                files.rm(root, recursive=True)
            files.makedirs(root)
            for path, data in objects.items():
                files.makedirs(f"{root}/{path}".rpartition("/")[0], exist_ok=True)
                files.pipe_file(f"{root}/{path}", data)
            return Remote(url, HubBackend(url))

        return hold


class TestHubOnADisk(HubContract):
    url = "file://{folder}/hub"


class TestHubInMemory(HubContract):
    url = "memory://team/labels"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    with running_faulty() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        huggingface_hub.HfFileSystem.clear_instance_cache()
        yield server
    huggingface_hub.HfFileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, AccessDenied, r"access is denied \(401\). Log in with the hub's own tools."),
        (403, AccessDenied, r"access is denied \(403\). Log in with the hub's own tools."),
        (404, ObjectMissing, "is missing"),
        (500, RemoteFailed, "the hub answers 500. Try again"),
    ],
)
def test_what_a_hub_answers_is_told_apart(
    server: FaultyServer, status: int, kind: type[RemoteError], text: str
) -> None:
    server.faults["api/datasets/team/labels"] = answering(status)

    with pytest.raises(kind, match=f"hf://datasets/team/labels/manifest.json: {text}"):
        connect(parse_address("hf://datasets/team/labels")).read("manifest.json", max_bytes=10)


def test_a_hub_that_is_not_reached_is_an_error_with_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_faulty() as server:
        pass
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    huggingface_hub.HfFileSystem.clear_instance_cache()

    with pytest.raises(RemoteFailed, match=r"the hub can't be reached. Try again"):
        connect(parse_address("hf://datasets/team/labels")).size("manifest.json")


def test_an_address_without_a_repository_is_refused_with_the_form_of_one(server: FaultyServer) -> None:
    with pytest.raises(InvalidOption, match="Write it as hf://datasets/OWNER/REPOSITORY/FOLDER"):
        connect(parse_address("hf://datasets/team")).list_objects()


def test_without_its_library_the_error_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)

    with pytest.raises(InvalidOption, match=r"pip install 'softlab\[hub\]'"):
        connect(parse_address("hf://datasets/team/labels"))
