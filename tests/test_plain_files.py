"""Files that others may have put there are read only where they are plain files, and no further than is said."""

import os
from pathlib import Path

import pytest

from softlab.plain_files import open_plain, read_if_there, read_plain


def test_a_plain_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")

    assert read_plain(tmp_path / "file", max_bytes=4) == b"data"
    assert read_if_there(tmp_path / "none") is None


@pytest.mark.parametrize("kind", ["link", "link to a device", "pipe", "folder", "socket"])
def test_what_is_no_plain_file_is_named_at_once(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("file")
    (tmp_path / "other").write_bytes(b"data")
    match kind:
        case "link":
            path.symlink_to("other")
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, 0o600 | 0o140000)
        case _:
            path.mkdir()

    for read in (read_plain, read_if_there):
        with pytest.raises(OSError, match=r"is a link or no plain file; remove it"):
            read(path)


def test_no_more_is_read_than_is_said(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(OSError, match=r"has 1,099,511,627,776 bytes, where at most 100 are read"):
        read_plain(tmp_path / "file", max_bytes=100)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(20):
        with pytest.raises(OSError, match="plain"):
            open_plain(tmp_path / "pipe", os.O_RDONLY)

    assert len(os.listdir("/proc/self/fd")) <= before
