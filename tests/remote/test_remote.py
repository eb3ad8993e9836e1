"""Of remote.py itself; what holds for every kind of place is in contract.py."""

from pathlib import Path

import pytest

from softlab.errors import InvalidOption, RemoteFailed
from softlab.remote import remote as remote_module
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote


class LosingBackend(FolderBackend):
    """Loses the answers to changes, after it has made them, or before."""

    def __init__(self, root: Path, *, changes: bool) -> None:
        super().__init__(root)
        self._changes = changes

    def create(self, path: str, data: bytes) -> bool:
        if self._changes:
            super().create(path, data)
        raise RemoteFailed(f"{path}: lost. Try again.")

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        if self._changes:
            super().replace(path, data, tag=tag)
        raise RemoteFailed(f"{path}: lost. Try again.")


def losing(root: Path, *, changes: bool) -> Remote:
    return Remote(str(root), LosingBackend(root, changes=changes))


def test_a_creation_whose_answer_was_lost_is_told_by_whose_object_is_there(tmp_path: Path) -> None:
    assert losing(tmp_path, changes=True).create("a", b"ours")
    assert not losing(tmp_path, changes=True).create("a", b"theirs")

    with pytest.raises(RemoteFailed, match=r"lost. Try again"):
        losing(tmp_path, changes=False).create("b", b"ours")


def test_a_replacement_whose_answer_was_lost_happened_if_ours_is_there(tmp_path: Path) -> None:
    plain = Remote(str(tmp_path), FolderBackend(tmp_path))
    plain.write("a", b"before")
    tag = plain.read_tagged("a", max_bytes=10).tag

    with pytest.raises(RemoteFailed, match=r"lost. Try again"):
        losing(tmp_path, changes=False).replace("a", b"ours", tag=tag)
    assert losing(tmp_path, changes=True).replace("a", b"ours", tag=tag)


def test_an_object_of_more_bytes_than_one_request_takes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "MAX_SINGLE_BYTES", 3)
    remote = Remote(str(tmp_path), FolderBackend(tmp_path))

    for change in (remote.write, remote.create):
        with pytest.raises(InvalidOption, match=r"would have 4 bytes.* Dump with a smaller `dump\.shard_rows`"):
            change("a", b"four")

    assert remote.create("a", b"two")
