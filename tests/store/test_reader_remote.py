import os
import pickle
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.disk import list_files
from softlab.errors import DamagedStore, InvalidOption, NotAStore
from softlab.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote
from softlab.store import read_ahead
from softlab.store.cache import CacheOptions
from softlab.store.format import FormatName
from softlab.store.manifest_file import read_manifest
from softlab.store.reader import Store, open_store
from tests.store.building import FORMATS, flip_byte, make_plan, with_digests, write_store
from tests.store.remote import open_counted, publish, upload
from tests.store.test_cache import read_right, read_row_by_row

NO_CACHE = CacheOptions(max_bytes=0)
NUM_SAMPLES, NUM_SHARDS = 11, 6
LOGITS = "outputs/logits/logits/c/0/0/0"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store; tests of damage copy it."""
    root = tmp_path_factory.mktemp("finished") / "store"
    write_store(root, with_digests(make_plan(), every=2))
    return root


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    return shutil.copytree(root, tmp_path / "store")


def caches(tmp_path: Path, *, is_cached: bool) -> CacheOptions:
    return CacheOptions(dir=tmp_path / "cache") if is_cached else NO_CACHE


BOTH_READERS = pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "uncached"])

# Rows.


@pytest.mark.parametrize("format", FORMATS)
@BOTH_READERS
def test_a_store_in_a_bucket_gives_the_rows_that_were_written(
    tmp_path: Path, bucket: str, format: FormatName, is_cached: bool
) -> None:
    write_store(tmp_path / "store", make_plan(format=format))
    upload(tmp_path / "store", f"{bucket}/labels")

    store = open_store(f"{bucket}/labels", cache=caches(tmp_path, is_cached=is_cached))

    assert read_right(store)
    assert read_right(pickle.loads(pickle.dumps(store)))
    assert store.digest == open_store(tmp_path / "store").digest


@given(
    reads=st.lists(st.tuples(st.lists(st.integers(0, NUM_SAMPLES - 1), max_size=9), st.integers(0, 1)), max_size=6),
    ahead=st.lists(st.tuples(st.lists(st.integers(0, NUM_SAMPLES - 1), max_size=9), st.integers(0, 1)), max_size=6),
)
def test_reading_ahead_changes_no_row_whatever_is_asked_for(
    root: Path, reads: list[tuple[list[int], int]], ahead: list[tuple[list[int], int]]
) -> None:
    local = open_store(root, cache=NO_CACHE)
    store, _ = open_counted(root, cache=NO_CACHE)

    for number, (samples, view) in enumerate(reads):
        for wanted, later_view in ahead[number : number + 2]:
            store.prefetch(wanted, view=later_view)
            store.prefetch(wanted, view=[later_view] * len(wanted), feature="pooled")
        np.testing.assert_array_equal(store.read_packed(samples, view=view), local.read_packed(samples, view=view))
        assert store.read_features("pooled", samples, view=view).equal(
            local.read_features("pooled", samples, view=view)
        )


# Reading ahead.


@BOTH_READERS
def test_what_was_fetched_ahead_is_not_fetched_again(tmp_path: Path, root: Path, is_cached: bool) -> None:
    store, backend = open_counted(root, cache=caches(tmp_path, is_cached=is_cached))

    store.prefetch(range(NUM_SAMPLES), view=1)
    backend.wait_for(
        file.path for shard in store.manifest.shards[3:] for file in shard.files if "/logits/" in file.path
    )
    before = backend.reads.total()
    assert len(store.read(range(NUM_SAMPLES), view=1)) == NUM_SAMPLES

    assert backend.reads.total() == before
    assert set(backend.reads_below("outputs/logits/", "outputs/pooled/").values()) == {1}
    assert not backend.reads_below("outputs/pooled/")


def test_only_shards_of_the_rows_asked_for_are_fetched_ahead(root: Path) -> None:
    store, backend = open_counted(root, cache=NO_CACHE)

    store.prefetch([0, 9, 10], view=[0, 1, 1], feature="pooled")
    store.read_features("pooled", [0, 9, 10], view=[0, 1, 1])

    assert backend.reads_below("outputs/logits/", "outputs/pooled/") == {
        "outputs/pooled/values/c/0/0/0": 1,
        "outputs/pooled/values/c/1/2/0": 1,
    }


def test_missing_shards_of_one_read_are_fetched_side_by_side(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan(num_samples=64))
    store, backend = open_counted(tmp_path, cache=NO_CACHE, pause_s=0.02)

    store.read(range(64))

    assert backend.most_at_once > len(store.manifest.storage.fields_of("outputs/logits"))
    assert set(backend.reads_below("outputs/logits/").values()) == {1}


def test_a_read_that_needs_more_than_may_be_held_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", 500)
    write_store(tmp_path, make_plan(num_samples=64))
    store, backend = open_counted(tmp_path, cache=NO_CACHE)

    store.prefetch(range(64))

    assert read_right(store)
    assert set(backend.reads_below("outputs/logits/", "outputs/pooled/").values()) == {1}


def test_rows_that_are_in_the_row_cache_are_not_fetched(tmp_path: Path, root: Path) -> None:
    cache = CacheOptions(dir=tmp_path)
    read_right(open_counted(root, cache=cache)[0])

    store, backend = open_counted(root, cache=cache)
    store.prefetch(range(NUM_SAMPLES), view=1)
    assert read_right(store)

    assert backend.reads.keys() == {MANIFEST_NAME}


def test_what_another_process_decoded_meanwhile_is_held_no_longer(tmp_path: Path, root: Path) -> None:
    cache = CacheOptions(dir=tmp_path)
    store, backend = open_counted(root, cache=cache)
    store.prefetch(range(NUM_SAMPLES))
    backend.wait_for(
        file.path for shard in store.manifest.shards[:3] for file in shard.files if "/logits/" in file.path
    )
    read_right(open_store(root, cache=cache))

    store.read(range(NUM_SAMPLES))

    ahead = store._groups.files._ahead
    assert ahead is not None
    assert ahead.is_idle


def test_a_failed_fetch_is_no_error_until_its_rows_are_read(copied: Path) -> None:
    store, backend = open_counted(copied, cache=NO_CACHE)
    (copied / LOGITS).unlink()

    store.prefetch(range(NUM_SAMPLES))
    backend.wait_for([LOGITS])

    assert len(store.read([4, 10])) == 2
    with pytest.raises(DamagedStore, match=re.escape(f"{LOGITS}: is missing.")):
        store.read([0])


def test_rows_that_are_not_there_are_not_fetched_ahead(root: Path) -> None:
    store, _ = open_counted(root, cache=NO_CACHE)

    with pytest.raises(InvalidOption, match=re.escape("has samples 0 to 10, not 11. Ask for one of those.")):
        store.prefetch([11])
    with pytest.raises(InvalidOption, match=re.escape("has no feature 'poled'")):
        store.prefetch([0], feature="poled")


def test_of_a_local_store_nothing_is_fetched_ahead(copied: Path) -> None:
    store = open_store(copied, cache=NO_CACHE)
    shutil.rmtree(copied / "outputs")

    store.prefetch(range(NUM_SAMPLES))


def test_samples_and_pixel_digests_are_fetched_once(root: Path) -> None:
    store, backend = open_counted(root, cache=NO_CACHE)

    for _ in range(3):
        store.read_samples()
        store.read_pixel_digests(0)
        store.read_pixel_digests(1)

    assert backend.reads_below("samples", "pixel_digests") == {
        "samples.parquet": 1,
        "pixel_digests/view-00000.parquet": 1,
        "pixel_digests/view-00001.parquet": 1,
    }


# The row cache.


def test_a_cache_folder_may_be_deleted_at_any_time(tmp_path: Path, root: Path) -> None:
    store, _ = open_counted(root, cache=CacheOptions(dir=tmp_path / "cache"))
    store.read([0])
    store.prefetch(range(NUM_SAMPLES), view=1)

    shutil.rmtree(tmp_path / "cache")

    assert read_right(store)


def test_two_processes_fill_one_cache_from_one_bucket_at_once(
    tmp_path: Path, bucket: str, workers: ProcessPoolExecutor
) -> None:
    write_store(tmp_path / "store", make_plan(format="parquet", num_samples=60, num_views=1))
    upload(tmp_path / "store", bucket)
    store, start = open_store(bucket, cache=CacheOptions(dir=tmp_path / "cache")), tmp_path / "start"

    answers = [workers.submit(in_environment, bucket_environment(), store, start) for _ in range(2)]
    start.touch()

    assert [answer.result() for answer in answers] == [True, True]
    filled = {name for name in list_files(tmp_path / "cache") if ".part-" in name}
    assert len(filled) == 2 * 15
    local = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache", check="none"))
    shutil.rmtree(tmp_path / "store/outputs")
    assert read_right(local)


def bucket_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def in_environment(environment: dict[str, str], store: Store, start: Path) -> bool:
    """The workers began before the server did."""
    os.environ.update(environment)
    return read_row_by_row(store, start=start)


# What is wrong at the other end.


def older(root: Path) -> bytes:
    """The same shard's file of another dump: valid in itself."""
    write_store(root, make_plan(k=2))
    return (root / LOGITS).read_bytes()


def flipped(path: Path) -> bytes:
    flip_byte(path)
    return path.read_bytes()


FAULTS: dict[str, tuple[Callable[[Path, Path], bytes | None], str]] = {
    "flipped byte": (lambda path, _: flipped(path), "its bytes are not the recorded ones."),
    "older shard": (lambda _, other: older(other), "recorded are"),
    "another shard": (lambda path, _: (path.parents[1] / "1/0").read_bytes(), "its bytes are not the recorded ones."),
    "shorter": (lambda path, _: path.read_bytes()[:-1], "recorded are"),
    "longer": (lambda path, _: path.read_bytes() * 3, "recorded are"),
    "empty": (lambda path, _: b"", "has 0 bytes, recorded are"),
    "missing": (lambda path, _: None, "is missing."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_object_is_never_used_and_never_cached(tmp_path: Path, copied: Path, bucket: str, fault: str) -> None:
    remote, (inflict, found) = upload(copied, bucket), FAULTS[fault]
    store = open_store(bucket, cache=CacheOptions(dir=tmp_path / "cache"))
    good = (copied / LOGITS).read_bytes()
    wrong = inflict(copied / LOGITS, tmp_path / "other")
    if wrong is None:
        remote.delete([LOGITS])
    else:
        remote.write(LOGITS, wrong)

    store.prefetch([0])
    with pytest.raises(DamagedStore, match=re.escape(found)) as refused:
        store.read([0])
    assert f"`softlab verify {bucket}` lists all damage; get those files again" in str(refused.value)

    remote.write(LOGITS, good)
    assert read_right(store)


def test_a_manifest_too_large_to_read_is_refused_by_its_size(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST_NAME).open("wb") as file:
        file.truncate(10**9)
    assert MAX_MANIFEST_BYTES < 10**9

    started = time.monotonic()
    for place in (tmp_path, Remote("somewhere", FolderBackend(tmp_path))):
        with pytest.raises(NotAStore, match=re.escape("Get the store again.")):
            read_manifest(place)
    assert time.monotonic() - started < 1


def test_what_is_no_store_is_said_with_the_address(bucket: str) -> None:
    with pytest.raises(NotAStore, match=re.escape("is missing, so this is not a softlab store.")):
        open_store(f"{bucket}/nothing")


def test_a_published_store_is_called_what_was_asked_for_in_messages_also_in_another_process(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    publish(tmp_path / "store", str(tmp_path / "place"))
    where = f"{tmp_path / 'place'}/pets@1"
    store = open_store(where, cache=NO_CACHE)

    for each in (store, pickle.loads(pickle.dumps(store))):
        with pytest.raises(InvalidOption, match=f"^{re.escape(where)}: has no feature"):
            each.row_bytes("other")
        with pytest.raises(InvalidOption, match=f"^{re.escape(where)}: has samples 0 to"):
            each.read([99])
    assert open_store(tmp_path / "store").name == str(tmp_path / "store")
