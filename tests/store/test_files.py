import errno
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from softlab.disk import create_file, list_files, remove
from softlab.errors import DamagedStore, StoreBusy, StoreError, StoreWriteFailed
from softlab.identity import digest_of
from softlab.locks import exclusive, shared
from softlab.manifest import FileRecord
from softlab.store.files import hash_matches, read_file, write_files
from tests.store.building import contents, flip_byte


def write_one(root: Path, *, data: bytes = b"teacher") -> FileRecord:
    (record,) = write_files(root, {"labels/0": data})
    return record


def how_it_is_taken(lock: Path) -> str:
    try:
        with exclusive(lock):
            return "taken"
    except StoreBusy as error:
        return str(error)


def test_files_are_written_below_a_folder_and_recorded_in_order(tmp_path: Path) -> None:
    files = {"b/c/0": b"one", "a": b"", "b/1": b"three"}

    records = write_files(tmp_path / "new", files)

    assert contents(tmp_path / "new") == files
    assert records == tuple(FileRecord(path=p, bytes=len(d), blake3=digest_of(d)) for p, d in files.items())


def test_a_written_file_replaces_an_older_one(tmp_path: Path) -> None:
    write_one(tmp_path, data=b"older and longer")

    write_one(tmp_path, data=b"newer")

    assert contents(tmp_path) == {"labels/0": b"newer"}


def test_a_failed_write_leaves_the_older_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_one(tmp_path, data=b"older")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreWriteFailed, match=re.escape("can't write: Input/output error.")):
            write_one(tmp_path, data=b"newer")

    assert contents(tmp_path) == {"labels/0": b"older"}


def test_a_full_disk_is_said_with_the_bytes_free_and_what_to_do(resize_disk: Callable[[int], Path]) -> None:
    root = resize_disk(64)

    with pytest.raises(StoreWriteFailed, match=r"No space left on device \([0-9,]+ bytes free\)") as refused:
        write_one(root, data=bytes(1 << 20))

    assert "make room or mend the cause, then run the same command again to go on." in str(refused.value)
    assert contents(root) == {}


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(StoreWriteFailed, match="mend the cause, then run the same command again"):
        write_one(tmp_path / "file")
    with (
        pytest.raises(StoreWriteFailed, match="mend the cause, then run the same command again"),
        exclusive(tmp_path / "file/commits/lock"),
    ):
        pass


def test_a_file_is_created_once(tmp_path: Path) -> None:
    create_file(tmp_path / "record", b"first")

    with pytest.raises(StoreBusy, match=re.escape("Let that one go on.")):
        create_file(tmp_path / "record", b"second")

    assert contents(tmp_path) == {"record": b"first"}


def test_a_recorded_file_is_read(tmp_path: Path) -> None:
    record = write_one(tmp_path)

    assert read_file(tmp_path, record) == b"teacher"
    assert hash_matches(tmp_path, record)


def test_an_empty_file_is_read(tmp_path: Path) -> None:
    assert read_file(tmp_path, write_one(tmp_path, data=b"")) == b""


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "deleted": (Path.unlink, "is missing."),
    "cut": (lambda path: path.write_bytes(b"teach"), "has 5 bytes, recorded are 7."),
    "longer": (lambda path: path.write_bytes(b"teacher!"), "has 8 bytes, recorded are 7."),
    "emptied": (lambda path: path.write_bytes(b""), "has 0 bytes, recorded are 7."),
    "changed": (flip_byte, "its bytes are not the recorded ones."),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_not_what_was_recorded_is_refused(tmp_path: Path, damage: str) -> None:
    record = write_one(tmp_path)
    inflict, found = DAMAGE[damage]
    inflict(tmp_path / "labels/0")

    with pytest.raises(DamagedStore, match=re.escape(found)) as refused:
        read_file(tmp_path, record)

    assert f"`softlab verify {tmp_path}` lists all damage; get those files again, or dump again." in str(refused.value)
    assert not hash_matches(tmp_path, record)


def test_a_file_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("not a folder")
    record = FileRecord(path="labels/0", bytes=7, blake3=digest_of(b"teacher"))

    with pytest.raises(StoreError, match=re.escape("can't be read: Not a directory. Check its permissions.")):
        read_file(tmp_path, record)


def test_a_link_does_not_match_even_if_it_leads_to_the_right_bytes(tmp_path: Path) -> None:
    record = write_one(tmp_path / "store")
    (tmp_path / "store/labels/0").rename(tmp_path / "elsewhere")
    (tmp_path / "store/labels/0").symlink_to(tmp_path / "elsewhere")

    assert not hash_matches(tmp_path / "store", record)


def test_a_link_a_pipe_or_a_device_is_never_read(tmp_path: Path) -> None:
    """A store that was unpacked from an archive may hold them; a device of no bytes would be read for ever."""
    right, empty = write_one(tmp_path), FileRecord(path="labels/0", bytes=0, blake3=digest_of(b""))
    (tmp_path / "labels/0").rename(tmp_path / "elsewhere")

    (tmp_path / "labels/0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedStore, match=re.escape("is a link or no plain file, as no file of a store is.")):
        read_file(tmp_path, right)
    (tmp_path / "labels/0").unlink()
    os.mkfifo(tmp_path / "labels/0")
    with pytest.raises(DamagedStore, match=re.escape("is a link or no plain file")):
        read_file(tmp_path, empty)


def test_files_are_listed_with_links_and_without_folders(tmp_path: Path) -> None:
    write_files(tmp_path / "store", {"b/2": b"", "a": b"", "b/10": b""})
    (tmp_path / "store/empty").mkdir()
    (tmp_path / "store/nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "elsewhere").mkdir()
    write_one(tmp_path / "elsewhere")
    (tmp_path / "store/folder").symlink_to(tmp_path / "elsewhere")

    assert list_files(tmp_path / "store") == ["a", "b/10", "b/2", "folder", "nowhere"]


def test_removing_files_removes_the_folders_that_they_leave_empty(tmp_path: Path) -> None:
    root = tmp_path / "store"
    write_files(root, {"a/b/c/0": b"", "a/1": b"", "d/e/2": b""})

    remove(root, ["a/b/c/0", "d/e/2"])

    assert {path.relative_to(root).as_posix() for path in root.rglob("*")} == {"a", "a/1"}


def test_removing_the_last_file_leaves_the_folder_itself(tmp_path: Path) -> None:
    write_one(tmp_path / "store")

    remove(tmp_path / "store", ["labels/0"])

    assert list((tmp_path / "store").iterdir()) == []


def test_a_lock_is_held_against_other_processes_until_it_is_left(tmp_path: Path, workers: ProcessPoolExecutor) -> None:
    lock = tmp_path / "commits/lock"

    with exclusive(lock):
        answer = workers.submit(how_it_is_taken, lock).result()

    assert answer == (
        f"{tmp_path}: another process is writing this store. Wait until it ends; "
        f"if it fails, the same command goes on where it stopped."
    )
    assert workers.submit(how_it_is_taken, lock).result() == "taken"


def how_it_is_shared(lock: Path) -> str:
    try:
        with shared(lock):
            return "shared"
    except StoreBusy:
        return "busy"


def test_a_lock_is_shared_only_once_its_holder_lets_others_in(tmp_path: Path, workers: ProcessPoolExecutor) -> None:
    lock = tmp_path / "commits/lock"

    with exclusive(lock) as let_others_share:
        before = workers.submit(how_it_is_shared, lock).result()
        let_others_share()
        after = workers.submit(how_it_is_shared, lock).result()
        alone = workers.submit(how_it_is_taken, lock).result()

    assert (before, after) == ("busy", "shared")
    assert "another process is writing this store" in alone


def test_a_lock_is_left_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock"):
        raise ZeroDivisionError

    assert how_it_is_taken(tmp_path / "lock") == "taken"
