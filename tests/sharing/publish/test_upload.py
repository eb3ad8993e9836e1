import itertools
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from softlab.errors import DamagedStore, RemoteFailed, StoreBusy
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote
from softlab.sharing.publish import leases, upload
from softlab.sharing.publish.leases import GcLease, PushLease
from softlab.sharing.publish.push import PushOptions, push
from softlab.sharing.publish.upload import MAX_ORIGINS
from softlab.store.published import store_path
from softlab.store.reader import open_store
from tests.sharing.publishing import (
    OPTIONS,
    assert_is_readable,
    digest_of_store,
    publish,
    published,
    remote_of,
    small_store,
    tree_of,
    variant,
)
from tests.store.building import flip_byte, make_plan, write_store

CHECKING = replace(OPTIONS, check=True)


def test_nothing_but_the_store_lies_in_its_tree_afterwards(store: Path, root: str) -> None:
    pushed = publish(store, f"{root}/pets")

    manifest = open_store(store).manifest
    assert tree_of(root, pushed.digest) == sorted(["manifest.json", *(file.path for file in manifest.files)])


@pytest.mark.parametrize("damage", [flip_byte, Path.unlink], ids=["flipped byte", "missing file"])
def test_a_damaged_store_is_refused_and_nothing_of_it_is_published(store: Path, root: str, damage: object) -> None:
    assert callable(damage)
    damage(store / "outputs/logits/logits/c/0/1/0")

    with pytest.raises(DamagedStore, match=r"outputs/logits/logits/c/0/1/0.*softlab verify"):
        publish(store, f"{root}/pets")

    assert published(root) == {}
    assert "manifest.json" not in tree_of(root, digest_of_store(store))


def test_what_another_version_has_is_copied_on_the_server(store: Path, tmp_path: Path, root: str) -> None:
    publish(store, f"{root}/pets")
    added = small_store(tmp_path / "added", features={"pooled": (6,)})

    pushed = publish(added, f"{root}/pets")

    files, held = open_store(added).manifest.files, {file.blake3 for file in open_store(store).manifest.files}
    assert pushed.files_copied == sum(file.blake3 in held for file in files) > 5
    assert pushed.bytes_uploaded == sum(file.bytes for file in files if file.blake3 not in held)
    assert pushed.files_uploaded == len(files) - pushed.files_copied
    assert_is_readable(root, 2)


def test_added_views_are_all_that_is_uploaded_of_an_extended_store(tmp_path: Path, folder: str) -> None:
    store = tmp_path / "store"
    parent = write_store(store, make_plan(num_views=2))
    publish(store, f"{folder}/pets")
    plan = msgspec.structs.replace(make_plan(num_views=3), parent=digest_of_store(store))
    manifest = write_store(store, plan)

    pushed = publish(store, f"{folder}/pets")

    held = {file.blake3 for file in parent.files}
    assert pushed.files_copied == sum(file.blake3 in held for file in manifest.files)
    assert pushed.files_copied >= sum(len(shard.files) for shard in parent.shards)
    assert_is_readable(folder, 2)


def test_an_older_version_that_is_damaged_costs_only_the_copies(store: Path, other: Path, folder: str) -> None:
    pushed = publish(store, f"{folder}/pets")
    (Path(folder) / "pets/stores" / pushed.digest / "manifest.json").write_bytes(b"{}")

    with pytest.warns(UserWarning, match="nothing is copied"):
        publish(other, f"{folder}/pets")

    assert_is_readable(folder, 2)


def test_a_push_that_is_interrupted_goes_on_where_it_stopped(
    store: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, sent, progress = Remote.write, itertools.count(), list[int]()

    def write_slowly_after_eight(remote: Remote, path: str, data: bytes) -> None:
        if next(sent) >= 8:  # else all are sent before the interruption is noticed
            time.sleep(0.1)
        write(remote, path, data)

    def interrupt(done: int, total: int) -> None:
        progress.append(done)
        if len(progress) == 4:
            raise KeyboardInterrupt

    one_by_one = PushOptions(licence="MIT", terms="", jobs=1)
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "write", write_slowly_after_eight)
        with pytest.raises(KeyboardInterrupt):
            push(store, f"{root}/pets", options=one_by_one, on_progress=interrupt)
    before = [path for path in tree_of(root, digest_of_store(store)) if path != "push.json"]

    pushed = push(store, f"{root}/pets", options=one_by_one)

    assert len(before) >= 4  # and those that were on their way
    assert (pushed.files_skipped, pushed.files_uploaded > 0) == (len(before), True)
    assert_is_readable(root, 1)


def test_a_file_that_was_cut_short_where_it_lies_is_uploaded_again(store: Path, folder: str) -> None:
    pushed = publish(store, f"{folder}/pets")
    (Path(folder) / "pets/stores" / pushed.digest / "samples.parquet").write_bytes(b"short")

    assert publish(store, f"{folder}/pets").files_uploaded == 1
    assert_is_readable(folder, 1)


def test_what_was_damaged_where_it_lies_is_mended_by_a_push_that_checks(store: Path, root: str) -> None:
    pushed = publish(store, f"{root}/pets")
    tree, paths = remote_of(root).within(store_path("pets", pushed.digest)), ["samples.parquet", "manifest.json"]
    for path in paths:
        tree.write(path, b"x" * (tree.size(path) or 0))
    assert publish(store, f"{root}/pets@1").files_uploaded == 0

    mended = push(store, f"{root}/pets@1", options=CHECKING)

    assert (mended.files_uploaded, mended.files_skipped) == (1, pushed.files_uploaded - 1)
    assert_is_readable(root, 1)


def test_what_is_damaged_in_another_version_is_uploaded_by_a_push_that_checks(
    store: Path, tmp_path: Path, folder: str
) -> None:
    pushed = publish(store, f"{folder}/pets")
    flip_byte(Path(folder) / store_path("pets", pushed.digest) / "outputs/logits/logits/c/0/0/0")

    again = push(variant(store, tmp_path / "again", 1), f"{folder}/pets", options=CHECKING)

    assert (again.files_uploaded, again.files_copied) == (1, pushed.files_uploaded - 1)
    assert_is_readable(folder, 2)


def test_a_push_that_checks_tells_of_bytes_that_only_grow(store: Path, folder: str) -> None:
    told: list[tuple[int, int]] = []
    pushed = publish(store, f"{folder}/pets")
    flip_byte(Path(folder) / store_path("pets", pushed.digest) / "samples.parquet")

    push(store, f"{folder}/pets", options=CHECKING, on_progress=lambda done, total: told.append((done, total)))

    total = sum(file.bytes for file in open_store(store).manifest.files)
    assert told == sorted(told)
    assert told[-1] == (total, total)
    assert len(told) > pushed.files_uploaded


def test_progress_ends_with_all_bytes(store: Path, folder: str) -> None:
    told: list[tuple[int, int]] = []

    push(store, f"{folder}/pets", options=OPTIONS, on_progress=lambda done, total: told.append((done, total)))

    total = sum(file.bytes for file in open_store(store).manifest.files)
    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_a_manifest_that_changes_during_the_push_is_never_published(store: Path, folder: str, tmp_path: Path) -> None:
    changed = variant(store, tmp_path / "changed", 1)

    def change(done: int, total: int) -> None:
        shutil.copy(changed / "manifest.json", store / "manifest.json")

    before = digest_of_store(store)
    push(store, f"{folder}/pets", options=OPTIONS, on_progress=change)

    assert published(folder) == {1: before}
    assert_is_readable(folder, 1)


def test_a_file_that_is_lost_on_the_server_keeps_a_version_from_being_published(store: Path, folder: str) -> None:
    tree = remote_of(folder).within(store_path("pets", digest_of_store(store)))

    with pytest.raises(RemoteFailed, match=r"samples\.parquet: is not there.*Run the same command again"):
        push(store, f"{folder}/pets", options=OPTIONS, on_progress=lambda done, total: tree.delete(["samples.parquet"]))

    assert published(folder) == {}
    publish(store, f"{folder}/pets")
    assert_is_readable(folder, 1)


def test_a_push_waits_for_a_gc_that_has_come_meanwhile(
    store: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WAIT_S", 0.1)
    monkeypatch.setattr(leases, "PAUSE_S", 0.01)
    lease = GcLease(remote_of(folder).within(store_path("pets", digest_of_store(store))), writer="0" * 32)

    def begin(done: int, total: int) -> None:
        assert lease.renew() or lease.acquire()

    with pytest.raises(StoreBusy, match=r"softlab gc.*Push again when it has ended"):
        push(store, f"{folder}/pets", options=OPTIONS, on_progress=begin)

    assert published(folder) == {}
    lease.release()
    publish(store, f"{folder}/pets")
    assert_is_readable(folder, 1)


def test_a_gc_that_comes_meanwhile_and_gives_up_costs_a_push_nothing(
    store: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PAUSE_S", 0.01)
    lease = GcLease(remote_of(folder).within(store_path("pets", digest_of_store(store))), writer="0" * 32)
    giving_up = threading.Timer(0.2, lease.release)

    def begin(done: int, total: int) -> None:
        if done == total:
            assert lease.acquire()
            giving_up.start()

    push(store, f"{folder}/pets", options=OPTIONS, on_progress=begin)

    giving_up.join()
    assert_is_readable(folder, 1)


def test_a_push_that_takes_long_writes_its_lease_again_and_again(
    store: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.0)
    tree, found = remote_of(folder).within(store_path("pets", digest_of_store(store))), []

    def look(done: int, total: int) -> None:
        found.append(tree.size("push.json") is not None)
        tree.delete(["push.json"])

    push(store, f"{folder}/pets", options=OPTIONS, on_progress=look)

    assert all(found)
    assert len(found) > 5


def test_what_an_older_version_lacks_is_uploaded(store: Path, tmp_path: Path, folder: str) -> None:
    pushed = publish(store, f"{folder}/pets")
    (Path(folder) / store_path("pets", pushed.digest) / "outputs/logits/logits/c/0/0/0").unlink()

    again = publish(variant(store, tmp_path / "again", 1), f"{folder}/pets")

    assert (again.files_uploaded, again.files_copied) == (1, pushed.files_uploaded - 1)
    assert_is_readable(folder, 2)


def test_files_are_copied_from_the_parent_first(store: Path, tmp_path: Path, folder: str) -> None:
    """Of as many stores as are asked only the parent has these files."""
    parent = publish(store, f"{folder}/pets")
    for seed in range(MAX_ORIGINS):
        publish(variant(small_store(tmp_path / f"{seed}", k=4), tmp_path / f"v{seed}", seed), f"{folder}/pets")

    pushed = publish(variant(store, tmp_path / "child", 9, parent=parent.digest), f"{folder}/pets")

    assert pushed.files_uploaded == 0


class Counting(FolderBackend):
    """Knows how many writes were under way at once."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.now, self.most, self._lock = 0, 0, threading.Lock()

    def write(self, path: str, data: bytes) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        super().write(path, data)
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize(("jobs", "held", "most"), [(4, 1 << 30, 4), (4, 1, 1), (1, 1 << 30, 1)])
def test_as_many_files_as_asked_for_are_uploaded_at_once_as_far_as_memory_allows(
    store: Path, folder: str, monkeypatch: pytest.MonkeyPatch, jobs: int, held: int, most: int
) -> None:
    monkeypatch.setattr(upload, "MAX_HELD_BYTES", held)
    opened, backend = open_store(store), Counting(Path(folder))
    remote = Remote(folder, backend)
    lease = PushLease(remote.within(store_path("pets", opened.digest)), writer="0" * 32)

    upload.upload_store(opened, (store / "manifest.json").read_bytes(), remote, "pets", lease=lease, jobs=jobs)

    assert backend.most == most
