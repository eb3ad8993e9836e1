import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from softlab.errors import ObjectMissing, StoreWriteFailed
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.folder import LOCK_NAME
from softlab.remote.remote import Remote
from tests.remote.contract import WriteContract


class TestFolder(WriteContract):
    @pytest.fixture
    def holding(self, tmp_path: Path) -> Callable[[Mapping[str, bytes]], Remote]:
        def hold(objects: Mapping[str, bytes]) -> Remote:
            for path, data in objects.items():
                (tmp_path / "shared" / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "shared" / path).write_bytes(data)
            return connect(parse_address(tmp_path / "shared"))

        return hold


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return connect(parse_address(tmp_path))


def test_the_lock_and_files_of_killed_writers_are_no_objects(remote: Remote, tmp_path: Path) -> None:
    remote.write("tag", b"first")
    remote.replace("tag", b"second", tag=remote.read_tagged("tag", max_bytes=10).tag)
    (tmp_path / "tag.0123456789ab.tmp").write_bytes(b"half")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / LOCK_NAME).write_bytes(b"an object of this name, in a folder that is listed by itself")

    listed = [each.path for each in remote.list_objects()]

    assert (tmp_path / LOCK_NAME).exists()
    assert listed == [f"labels/{LOCK_NAME}", "tag"]
    assert [each.path for each in remote.list_objects("labels")] == [f"labels/{LOCK_NAME}"]


def test_a_pipe_is_no_object_and_is_not_waited_for(remote: Remote, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ObjectMissing, match="pipe: is missing"):
        remote.read("pipe", max_bytes=10)

    assert remote.size("pipe") is None


def test_a_write_that_the_disk_refuses_says_so(remote: Remote) -> None:
    remote.write("a", b"a file")

    with pytest.raises(StoreWriteFailed, match="run the same command again"):
        remote.write("a/b", b"below a file")


def test_deleting_leaves_no_empty_folders(remote: Remote, tmp_path: Path) -> None:
    remote.write("a/b/c", b"")

    remote.delete(["a/b/c"])

    assert list(tmp_path.iterdir()) == []
