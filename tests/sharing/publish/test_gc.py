import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlab.errors import InvalidOption, NotAStore, StoreBusy
from softlab.identity import digest_of
from softlab.manifest import encode
from softlab.manifest.versions import VersionRecord, summarise
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote
from softlab.sharing.publish import gc, leases
from softlab.sharing.publish.gc import GcOptions, collect_garbage
from softlab.sharing.publish.leases import GcLease, PushLease
from softlab.sharing.publish.push import push
from softlab.store.published import store_path, version_path
from softlab.store.verify import verify_store
from tests.forks import run_in_fork
from tests.kills import before_change, kill_this_process
from tests.manifests import make_manifest
from tests.sharing.publishing import (
    OPTIONS,
    assert_is_readable,
    digest_of_store,
    publish,
    published,
    remote_of,
    small_store,
    tree_of,
)
from tests.store.building import contents

DAY_S = 86_400
FILES = ("manifest.json", "samples.parquet", "outputs/logits/logits/c/0/0/0")


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What may lie in the folder of a store."""

    is_live: bool
    is_fresh: bool
    num_files: int
    leases: tuple[str, ...]


TREES = st.builds(
    Tree,
    is_live=st.booleans(),
    is_fresh=st.booleans(),
    num_files=st.integers(min_value=1, max_value=3),
    leases=st.sampled_from([(), ("push.json",), ("gc.json",), ("push.json", "gc.json")]),
)


def write(root: Path, path: str, data: bytes = b"data", *, days_old: float = 30.0) -> str:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    make_old(root / path, days_old=days_old)
    return path


def make_old(path: Path, *, days_old: float = 30.0) -> None:
    then = time.time() - days_old * DAY_S
    os.utime(path, (then, then))


def make_tree_old(root: Path, digest: str) -> None:
    for path in (root / store_path("pets", digest)).rglob("*"):
        make_old(path)


def record_of(digest: str, version: int, *, manifest_bytes: int) -> VersionRecord:
    return VersionRecord(
        name="pets",
        version=version,
        digest=digest,
        manifest_bytes=manifest_bytes,
        published="2026-01-01T00:00:00Z",
        writer="0" * 32,
        licence="MIT",
        terms="",
        summary=summarise(make_manifest()),
    )


def publish_record(root: Path, digest: str, version: int, *, manifest_bytes: int = 1) -> str:
    record = record_of(digest, version, manifest_bytes=manifest_bytes)
    return write(root, version_path("pets", version), encode(record))


def files_of(root: Path) -> dict[str, bytes]:
    """But for the folder's own lock."""
    return {path: data for path, data in contents(root).items() if path != ".softlab-lock"}


@settings(max_examples=40)
@given(trees=st.lists(TREES, max_size=4), temporaries=st.lists(st.booleans(), max_size=3))
def test_nothing_goes_but_old_trees_without_a_version_old_temporaries_and_idle_leases(
    tmp_path_factory: pytest.TempPathFactory, trees: list[Tree], temporaries: list[bool]
) -> None:
    root = tmp_path_factory.mktemp("labels")
    goes = set[str]()
    stays = {write(root, "notes.txt"), write(root, "pets/stores/README"), write(root, "data/stores/x/y")}
    for number, tree in enumerate(trees, start=1):
        folder = store_path("pets", digest_of(bytes([number])))
        files = {write(root, f"{folder}/{name}") for name in FILES[: tree.num_files]}
        lease_files = {write(root, f"{folder}/{name}") for name in tree.leases}
        if tree.is_fresh:
            make_old(root / max(files | lease_files), days_old=1)
        if tree.is_live:
            stays.add(publish_record(root, digest_of(bytes([number])), number))
        (stays if tree.is_live or tree.is_fresh else goes).update(files)
        (stays if tree.is_fresh and not tree.is_live else goes).update(lease_files)
    for number, is_fresh in enumerate(temporaries):
        path = write(root, f"pets/versions/{number}.json.{number:012x}.tmp", days_old=1 if is_fresh else 30)
        (stays if is_fresh else goes).add(path)
    before = contents(root)

    foretold = collect_garbage(root, options=GcOptions(dry_run=True))
    assert contents(root) == before
    report = collect_garbage(root)

    assert files_of(root) == {path: before[path] for path in stays}
    assert report == foretold
    assert sum(each.files for each in report.leftovers) == len(goes)
    assert sum(each.bytes for each in report.leftovers) == sum(len(before[path]) for path in goes)
    assert report.in_use == ()
    assert collect_garbage(root).leftovers == ()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "labels"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small_store(tmp_path / "store")


@pytest.fixture
def tree(root: Path, store: Path) -> str:
    """The digest of a store whose push was given up a month ago, before its version."""
    abandon(root, store)
    return digest_of_store(store)


def abandon(root: Path, store: Path) -> None:
    published_store = publish(store, f"{root}/pets@9")
    (root / version_path("pets", 9)).unlink()
    PushLease(remote_of(str(root)).within(store_path("pets", published_store.digest)), writer="0" * 32).hold()
    make_tree_old(root, published_store.digest)


def test_a_push_that_was_given_up_is_removed(root: Path, tree: str) -> None:
    report = collect_garbage(root)

    assert [each.path for each in report.leftovers] == [store_path("pets", tree)]
    assert not (root / store_path("pets", tree)).exists()


def test_what_a_killed_push_tested_the_server_with_goes_from_beside_a_published_store(root: Path, store: Path) -> None:
    folder = store_path("pets", publish(store, f"{root}/pets@1").digest)
    before = files_of(root)
    left = [write(root, f"{folder}/push-{'0' * 32}.json"), write(root, f"{folder}/manifest.json.0123456789ab.tmp")]
    write(root, f"{folder}/push-{'1' * 32}.json", days_old=1)

    report = collect_garbage(root)

    assert sorted(each.path for each in report.leftovers) == sorted(left)
    assert files_of(root).keys() == before.keys() | {f"{folder}/push-{'1' * 32}.json"}
    assert verify_store(f"{root}/pets@1").is_intact


def test_a_push_that_begins_after_gc_has_looked_keeps_its_tree(root: Path, tree: str) -> None:
    """Another tree comes first; when it is done, a push begins."""
    write(root, f"aaa/stores/{digest_of(b'other')}/manifest.json")
    lease = PushLease(remote_of(str(root)).within(store_path("pets", tree)), writer="0" * 32)
    before = set(tree_of(str(root), tree))

    def begin(done: int, total: int) -> None:
        if done == 1:
            lease.hold()

    report = collect_garbage(root, on_leftover=begin)

    assert report.in_use == (store_path("pets", tree),)
    assert set(tree_of(str(root), tree)) == before


def test_a_push_that_ends_after_gc_has_looked_keeps_its_tree(root: Path, store: Path, tree: str) -> None:
    """All its files were there from long ago, and its own lease is gone."""
    write(root, f"aaa/stores/{digest_of(b'other')}/manifest.json")

    def finish(done: int, total: int) -> None:
        if done == 1:
            publish_record(root, tree, 1, manifest_bytes=(store / "manifest.json").stat().st_size)
            (root / store_path("pets", tree) / "push.json").unlink()

    report = collect_garbage(root, on_leftover=finish)

    assert report.in_use == (store_path("pets", tree),)
    assert "gc.json" not in tree_of(str(root), tree)
    assert_is_readable(str(root), 1)


def test_a_push_waits_for_gc_and_says_so(root: Path, store: Path, tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WAIT_S", 0.1)
    monkeypatch.setattr(leases, "PAUSE_S", 0.01)
    lease = GcLease(remote_of(str(root)).within(store_path("pets", tree)), writer="1" * 32)
    assert lease.acquire()

    with pytest.raises(StoreBusy, match=r"softlab gc.*Push again when it has ended"):
        publish(store, f"{root}/pets")

    assert published(str(root)) == {}
    lease.release()
    publish(store, f"{root}/pets")
    assert_is_readable(str(root), 1)


def test_a_gc_that_was_killed_long_ago_holds_up_no_push(root: Path, store: Path, tree: str) -> None:
    lease = GcLease(remote_of(str(root)).within(store_path("pets", tree)), writer="1" * 32)
    assert lease.acquire()
    make_old(root / store_path("pets", tree) / "gc.json", days_old=0.1)

    publish(store, f"{root}/pets")

    assert_is_readable(str(root), 1)
    assert not lease.renew()  # should it live after all, it removes nothing more


def test_pushes_and_gcs_that_meet_lose_nothing(
    root: Path, store: Path, tree: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PAUSE_S", 0.005)
    outcomes = set[str]()
    for number in range(12):
        together = threading.Barrier(2)
        reports: list[gc.GcReport] = []

        def clean(together: threading.Barrier = together, reports: list[gc.GcReport] = reports) -> None:
            together.wait()
            reports.append(collect_garbage(root))

        cleaner = threading.Thread(target=clean)
        cleaner.start()
        together.wait()
        time.sleep(0.002 * (number % 6))
        pushed = push(store, f"{root}/pets", options=OPTIONS)
        cleaner.join()

        assert_is_readable(str(root), 1)
        outcomes.add("skipped" if pushed.files_skipped else "uploaded")
        (root / version_path("pets", 1)).unlink()
        make_tree_old(root, tree)

    assert outcomes


class Displaced(FolderBackend):
    """Another process takes this one for dead, and its lease away, as soon as it has removed something."""

    def delete(self, paths: list[str]) -> None:
        name, stores, digest, *_ = paths[0].split("/")
        super().delete([*paths, f"{name}/{stores}/{digest}/gc.json"])


def test_a_gc_that_was_taken_for_dead_removes_nothing_more(
    root: Path, tree: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "connect", lambda address: Remote(address.root, Displaced(root)))
    monkeypatch.setattr(gc, "BATCH", 1)
    before = tree_of(str(root), tree)

    report = collect_garbage(root)

    assert report.in_use == (store_path("pets", tree),)
    assert len(tree_of(str(root), tree)) == len(before) - 1


def gc_and_die(root: Path, number: int) -> None:
    before_change(root, number, kill_this_process)
    collect_garbage(root)


@pytest.mark.process
def test_a_gc_that_is_killed_before_any_change_is_gone_on_with(root: Path, store: Path, tmp_path: Path) -> None:
    live = small_store(tmp_path / "live", k=4)
    publish(live, f"{root}/pets@1")
    codes = []
    for number in range(3, 200, 20):
        abandon(root, store)
        codes.append(run_in_fork(gc_and_die, root, number))
        make_tree_old(root, digest_of_store(store))
        collect_garbage(root, options=GcOptions(older_than_s=3600))
        assert not [path for path in files_of(root) if digest_of_store(store) in path]
        assert_is_readable(str(root), 1)
        if codes[-1] == 0:
            break

    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) == len(codes) - 1 > 1


def test_a_bucket_is_cleaned_up_too(store: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "MIN_AGE_S", 0.0)
    publish(small_store(tmp_path / "live", k=4), f"{bucket}/pets")
    tree = remote_of(bucket).within(store_path("pets", digest_of_store(store)))
    for number in range(300):
        tree.write(f"outputs/logits/logits/c/{number}", b"data")
    PushLease(tree, writer="0" * 32).hold()
    time.sleep(2.1)  # a server's dates are of whole seconds

    report = collect_garbage(bucket, options=GcOptions(older_than_s=1.0))

    assert [(each.path, each.files) for each in report.leftovers] == [(tree.folder.rstrip("/"), 301)]
    assert tree.list_objects() == []
    assert_is_readable(bucket, 1)


def test_where_a_version_record_can_not_be_read_nothing_is_removed(root: Path, tree: str) -> None:
    write(root, version_path("pets", 3), b"{")
    before = contents(root)

    with pytest.raises(NotAStore, match=r"pets/versions/3\.json"):
        collect_garbage(root)

    assert contents(root) == before


def test_an_age_that_a_running_push_may_have_is_refused() -> None:
    with pytest.raises(InvalidOption, match="--older-than 1h or more"):
        GcOptions(older_than_s=60)


@pytest.mark.parametrize("place", ["https://labels.example.org", "hf://datasets/a"])
def test_a_place_that_can_only_be_read_is_refused(place: str) -> None:
    with pytest.raises(InvalidOption, match="can only be read"):
        collect_garbage(place)


def test_a_version_is_no_place_to_clean_up(root: Path) -> None:
    with pytest.raises(InvalidOption, match="Give what stands before its name"):
        collect_garbage(f"{root}/pets@3")


def test_nothing_is_left_over_where_nothing_is(root: Path) -> None:
    root.mkdir()

    assert collect_garbage(root).leftovers == ()
