"""Of disk.py, what folders of objects need; what stores need is in store/test_files.py."""

import errno
import os
from pathlib import Path

import pytest

from softlab import disk
from softlab.disk import is_temporary, list_files, read_whole, write_whole
from softlab.errors import StoreError, StoreWriteFailed


def test_written_files_are_whole_under_their_names_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "new", {"a": b"one", "b/c": memoryview(b"two"), "empty": b""})

    assert list_files(tmp_path) == ["new/a", "new/b/c", "new/empty"]
    assert (tmp_path / "new" / "b" / "c").read_bytes() == b"two"


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """The file that was open stays what it was."""
    write_whole(tmp_path, {"a": b"old" * 1000})

    with (tmp_path / "a").open("rb") as reader:
        write_whole(tmp_path, {"a": b"new"})

        assert reader.read() == b"old" * 1000
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_folder_in_the_place_of_a_file_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    with pytest.raises(StoreWriteFailed, match=r"/a: is a link or no plain file; remove it, then run the same command"):
        write_whole(tmp_path, {"a": b"data"})

    assert list_files(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.EINTR])
def test_what_can_t_be_read_is_an_error_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *, max_bytes: int) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(disk, "read_if_there", refuse)

    with pytest.raises(StoreError, match=rf"a: can't be read: {os.strerror(number)}\. Check its permissions"):
        read_whole(tmp_path / "a")


def test_what_may_have_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()

    for name in ("pipe", "device", "folder"):
        with pytest.raises(StoreError, match=f"{name}: is a link or no plain file"):
            read_whole(tmp_path / name)


def test_what_is_not_there_is_told_from_what_can_t_be_read(tmp_path: Path) -> None:
    assert read_whole(tmp_path / "a") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a.0123456789ab.tmp", True), ("b/a.json.ffffffffffff.tmp", True), ("a.tmp", False), ("a", False)),
        *(("a.0123456789AB.tmp", False), ("a.0123456789ab.tmp\n", False), ("a.0123456789ab.tmp/b", False)),
    ],
)
def test_a_name_tells_whether_a_file_was_still_being_written(name: str, expected: bool) -> None:
    assert is_temporary(name) is expected
