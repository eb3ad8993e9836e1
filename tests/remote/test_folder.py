import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import ObjectMissing, StoreWriteFailed
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.folder import LOCK_NAME
from softlab.remote.remote import Remote
from softlab.testing.remotes import WriteContract


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


@pytest.fixture
def replaced(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object whose place another one of more bytes takes as soon as anything is asked about it."""
    (tmp_path / "tag").write_bytes(b"version 9")
    (tmp_path / "longer").write_bytes(b"version 10")
    old = (tmp_path / "tag").stat().st_ino

    def answer_too_late(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def answer(*arguments: Any, **options: Any) -> os.stat_result:
            found = ask(*arguments, **options)
            if found.st_ino == old and os.access(tmp_path / "longer", os.F_OK):
                os.replace(tmp_path / "longer", tmp_path / "tag")
            return found

        return answer

    for name in ("stat", "fstat"):
        monkeypatch.setattr(os, name, answer_too_late(getattr(os, name)))


@pytest.mark.usefixtures("replaced")
def test_an_object_that_is_replaced_while_it_is_read_is_the_old_one_or_the_new_one_as_a_whole(remote: Remote) -> None:
    assert remote.read("tag", max_bytes=100) == b"version 9"
    assert remote.read("tag", max_bytes=100) == b"version 10"


@pytest.mark.usefixtures("replaced")
def test_an_object_that_is_replaced_while_it_is_copied_is_copied_as_a_whole(remote: Remote, tmp_path: Path) -> None:
    remote.copy("tag", "copy")

    assert (tmp_path / "copy").read_bytes() in (b"version 9", b"version 10")


def test_a_write_that_the_disk_refuses_says_so(remote: Remote) -> None:
    remote.write("a", b"a file")

    with pytest.raises(StoreWriteFailed, match="run the same command again"):
        remote.write("a/b", b"below a file")


def test_deleting_leaves_no_empty_folders(remote: Remote, tmp_path: Path) -> None:
    remote.write("a/b/c", b"")

    remote.delete(["a/b/c"])

    assert list(tmp_path.iterdir()) == []
