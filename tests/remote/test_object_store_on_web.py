"""Web servers: object_store.py over nginx, a real one."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from softlab.errors import AccessDenied, InvalidOption
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote
from softlab.testing.remotes import ReadOnlyContract
from tests.servers.nginx import has_nginx, running_nginx

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    if not has_nginx():
        pytest.skip("needs nginx, of the operating system's packages")
    folder = tmp_path_factory.mktemp("nginx")
    with running_nginx(folder) as url:
        yield folder / "served", url


class TestWebServer(ReadOnlyContract):
    @pytest.fixture
    def holding(self, nginx: tuple[Path, str]) -> Callable[[Mapping[str, bytes]], Remote]:
        served, url = nginx

        def hold(objects: Mapping[str, bytes]) -> Remote:
            for path, data in objects.items():
                (served / "labels" / path).parent.mkdir(parents=True, exist_ok=True)
                (served / "labels" / path).write_bytes(data)
            return connect(parse_address(f"{url}/labels"))

        return hold


def test_a_web_server_is_not_asked_for_lists(nginx: tuple[Path, str]) -> None:
    remote = connect(parse_address(nginx[1]))

    for ask in (remote.list_objects, remote.list_folders):
        with pytest.raises(InvalidOption, match=r"don't list what they hold. Choose an object store or a folder"):
            ask()


def test_a_page_that_wants_a_login_is_told_from_one_that_is_denied(nginx: tuple[Path, str]) -> None:
    remote = connect(parse_address(nginx[1]))

    with pytest.raises(AccessDenied, match=r"credentials are not accepted \(401\). Web servers are read without"):
        remote.read("for-members/manifest.json", max_bytes=10)
    with pytest.raises(AccessDenied, match=r"access is denied \(403\). Web servers are read without"):
        remote.read("for-nobody/manifest.json", max_bytes=10)
