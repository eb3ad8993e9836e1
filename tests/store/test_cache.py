import gc
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from softlab.disk import list_files
from softlab.errors import ChangedCache, DamagedStore, InvalidOption, StoreWriteFailed
from softlab.identity import digest_of, keyed_digest_of
from softlab.indices import StoreIndex
from softlab.shards import Shard, ShardGrid
from softlab.store.cache import CachedRows, CacheOptions, Check
from softlab.store.reader import Store, open_store
from softlab.store.rows import Rows
from tests.store.building import flip_byte, make_arrays, make_plan, write_store

GRID = ShardGrid(num_views=2, num_samples=11, shard_rows=4)
ROWS = np.random.default_rng(0).integers(0, 256, size=(11, 24), dtype=np.uint8)
NAME = "outputs-logits-view-00001"
ROW_BYTES = 3 * 2 + 3 * 2 + 2 + 2 * 2 + 6 * 2
"""Of the labels and the feature of the store that `make_plan` plans."""

STORE_BYTES = 2 * 11 * ROW_BYTES


class Shards:
    """Decodes shards of `ROWS`, and remembers which."""

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def decode(self, shard: Shard, rows: Rows) -> None:
        self.decoded.append(shard.part)
        rows[:] = ROWS[shard.start : shard.stop]


@pytest.fixture
def shards() -> Shards:
    return Shards()


def recorded(shard: Shard) -> str:
    """What a manifest would say of a shard's files."""
    return f"hashes of shard {shard.part}"


def open_rows(folder: Path, shards: Shards, *, check: Check = "none") -> CachedRows:
    return CachedRows(
        folder,
        name="outputs-logits",
        grid=GRID,
        row_bytes=24,
        decode=shards.decode,
        recorded=recorded,
        view=1,
        check=check,
    )


def open_cached(root: Path, cache: Path, *, max_bytes: int = 1 << 20) -> Store:
    return open_store(root, cache=CacheOptions(dir=cache, max_bytes=max_bytes, check="none"))


def read_right(store: Store) -> bool:
    """Whether labels and features of all rows are what was written."""
    arrays, numbers = make_arrays(store.manifest), np.arange(store.num_samples)[::-1]
    for view in range(store.num_views):
        labels, features = store.read(numbers, view=view), store.read_features("pooled", numbers, view=view)
        np.testing.assert_array_equal(labels.logits_BK, arrays["outputs/logits/logits"][view, ::-1].astype("f4"))
        np.testing.assert_array_equal(labels.class_ids_BK, arrays["outputs/logits/class_ids"][view, ::-1].astype("i8"))
        np.testing.assert_array_equal(features, arrays["outputs/pooled/values"][view, ::-1].astype("f4"))
    return True


def read_row_by_row(store: Store, *, start: Path) -> bool:
    """As `read_right`, after many small reads that begin when a file appears."""
    while not start.exists():
        time.sleep(0.001)
    for number in range(store.num_samples):
        store.read([number])
    return read_right(store)


def remove_shards(root: Path) -> None:
    shutil.rmtree(root / "outputs")


def set_last_use(cache: Path, digest: str, *, minutes_ago: int) -> None:
    when = time.time() - 60 * minutes_ago
    os.utime(cache / digest, (when, when))


# One view and group.


def test_rows_are_given_in_the_order_asked_for(tmp_path: Path, shards: Shards) -> None:
    samples = np.array([10, 0, 3, 3, 7, 10])

    taken = open_rows(tmp_path, shards).take(StoreIndex(samples))

    np.testing.assert_array_equal(taken, ROWS[samples])


def test_no_rows_may_be_asked_for(tmp_path: Path, shards: Shards) -> None:
    assert open_rows(tmp_path, shards).take(StoreIndex(np.array([], dtype=np.int64))).shape == (0, 24)
    assert shards.decoded == []


def test_a_shard_is_decoded_when_it_is_first_touched_and_never_again(tmp_path: Path, shards: Shards) -> None:
    rows = open_rows(tmp_path, shards)

    rows.take(StoreIndex(np.array([9, 8])))
    assert shards.decoded == [2]
    rows.take(StoreIndex(np.array([1, 9, 10])))
    rows.take(StoreIndex(np.arange(11)))
    rows.take(StoreIndex(np.arange(11)))

    assert shards.decoded == [2, 0, 1]


def test_rows_that_were_decoded_before_are_not_decoded_again(tmp_path: Path, shards: Shards) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(8)))

    taken = open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))

    assert shards.decoded == [0, 1, 2]
    np.testing.assert_array_equal(taken, ROWS)


@pytest.mark.parametrize("position", [0, 4 * 24, 11 * 24 - 1])
def test_damaged_rows_are_decoded_again(tmp_path: Path, shards: Shards, position: int) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    flip_byte(tmp_path / f"{NAME}.rows", position=position)

    taken = open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))

    np.testing.assert_array_equal(taken, ROWS)
    assert shards.decoded == [0, 1, 2, position // (4 * 24)]


@pytest.mark.parametrize("size", [0, 100])
def test_rows_whose_file_was_cut_are_decoded_again(tmp_path: Path, shards: Shards, size: int) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    os.truncate(tmp_path / f"{NAME}.rows", size)

    taken = open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))

    np.testing.assert_array_equal(taken, ROWS)


@pytest.mark.parametrize("content", [b"", b"0" * 64, b"\xff\xfe\0"])
def test_a_marker_of_another_content_is_ignored(tmp_path: Path, shards: Shards, content: bytes) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    (tmp_path / f"{NAME}.part-00001").write_bytes(content)

    taken = open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))

    np.testing.assert_array_equal(taken, ROWS)
    assert shards.decoded == [0, 1, 2, 1]


def test_rows_without_a_marker_are_decoded_again(tmp_path: Path, shards: Shards) -> None:
    """As after a crash between the two."""
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    (tmp_path / f"{NAME}.part-00002").unlink()

    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))

    assert shards.decoded == [0, 1, 2, 2]


def test_a_marker_without_rows_is_ignored(tmp_path: Path, shards: Shards) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    (tmp_path / f"{NAME}.rows").unlink()

    taken = open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))

    np.testing.assert_array_equal(taken, ROWS)


def test_a_folder_that_is_deleted_while_it_is_open_still_serves_and_is_not_made_again(
    tmp_path: Path, shards: Shards
) -> None:
    (tmp_path / "cache").mkdir()
    rows = open_rows(tmp_path / "cache", shards)
    rows.take(StoreIndex(np.arange(4)))

    shutil.rmtree(tmp_path / "cache")
    taken = rows.take(StoreIndex(np.arange(11)))

    np.testing.assert_array_equal(taken, ROWS)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_another_process_made_again_is_filled_anew(tmp_path: Path, shards: Shards) -> None:
    (tmp_path / "cache").mkdir()
    older = open_rows(tmp_path / "cache", shards)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    newer = open_rows(tmp_path / "cache", shards)

    older.take(StoreIndex(np.arange(11)))  # rows into the deleted file, markers into the new folder

    np.testing.assert_array_equal(newer.take(StoreIndex(np.arange(11))), ROWS)
    np.testing.assert_array_equal(older.take(StoreIndex(np.arange(11))), ROWS)


def test_a_file_is_closed_when_its_rows_are_no_longer_used(tmp_path: Path, shards: Shards) -> None:
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    rows = open_rows(tmp_path, shards)
    taken = rows.take(StoreIndex(np.arange(11)))
    assert len(os.listdir("/dev/fd")) > before

    del rows
    gc.collect()

    assert len(os.listdir("/dev/fd")) == before
    np.testing.assert_array_equal(taken, ROWS)


# Whole stores.


def test_a_store_is_read_from_the_cache_alone_once_it_is_there(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    assert read_right(open_cached(tmp_path / "store", tmp_path / "cache"))
    remove_shards(tmp_path / "store")

    store = open_cached(tmp_path / "store", tmp_path / "cache")

    assert read_right(store)
    assert [name for name in list_files(tmp_path / "cache") if name.endswith(".rows")] == [
        f"{store.digest}/outputs-logits-view-00000.rows",
        f"{store.digest}/outputs-logits-view-00001.rows",
        f"{store.digest}/outputs-pooled-view-00000.rows",
        f"{store.digest}/outputs-pooled-view-00001.rows",
    ]


def test_both_formats_and_two_stores_share_a_cache_without_mixing(tmp_path: Path) -> None:
    plans = [make_plan(), make_plan(format="parquet"), make_plan(k=4), make_plan(coding="float32")]
    for number, plan in enumerate(plans):
        write_store(tmp_path / str(number), plan)

    for _ in range(2):
        for number in range(len(plans)):
            assert read_right(open_cached(tmp_path / str(number), tmp_path / "cache"))

    assert len(list((tmp_path / "cache").iterdir())) == len(plans)


def test_the_least_recently_opened_store_makes_room(tmp_path: Path) -> None:
    cache, digests = tmp_path / "cache", []
    for number, k in enumerate([3, 2, 1]):
        write_store(tmp_path / str(number), make_plan(k=k))
        store = open_cached(tmp_path / str(number), cache)
        assert read_right(store)
        digests.append(store.digest)
    for digest, minutes_ago in zip(digests, [10, 30, 20], strict=True):
        set_last_use(cache, digest, minutes_ago=minutes_ago)
    open_cached(tmp_path / "1", cache).read([0])  # from now on 2 and then 0 are the first to go
    room_for_another = sum(512 * file.stat().st_blocks for file in (cache / digests[0]).glob("*.rows"))

    write_store(tmp_path / "new", make_plan(coding="uint8"))
    new = open_cached(tmp_path / "new", cache, max_bytes=STORE_BYTES + room_for_another)
    new.read([0])

    assert {folder.name for folder in cache.iterdir()} == {new.digest, digests[1]}


def test_only_rows_make_room_and_nothing_else_that_lies_in_the_folder(tmp_path: Path) -> None:
    """A folder for the cache may be any that a user has."""
    thesis, note = tmp_path / "cache/thesis", tmp_path / "cache" / ("a" * 64) / "note.txt"
    linked = tmp_path / "cache" / ("b" * 64)
    rows = [thesis / "own.rows", tmp_path / "elsewhere/own.rows", note.with_name("outputs-logits-view-00000.rows")]
    marker = rows[2].with_suffix(".part-00000")
    for path in (*rows, note, marker):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10_000))
    linked.symlink_to(tmp_path / "elsewhere")
    write_store(tmp_path / "store", make_plan())

    open_cached(tmp_path / "store", tmp_path / "cache", max_bytes=STORE_BYTES).read([0])

    assert [path.exists() for path in (*rows, note, marker)] == [True, True, False, True, False]
    assert linked.is_symlink()


def test_a_store_makes_no_room_that_it_does_not_need(tmp_path: Path) -> None:
    for name, k in (("old", 3), ("new", 2)):
        write_store(tmp_path / name, make_plan(k=k))
        assert read_right(open_cached(tmp_path / name, tmp_path / "cache", max_bytes=1 << 20))

    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_store_whose_rows_were_evicted_while_it_was_open_is_still_read(tmp_path: Path) -> None:
    for name, k in (("old", 3), ("new", 2)):
        write_store(tmp_path / name, make_plan(k=k))
    old = open_cached(tmp_path / "old", tmp_path / "cache", max_bytes=STORE_BYTES)
    old.read([0])

    new = open_cached(tmp_path / "new", tmp_path / "cache", max_bytes=STORE_BYTES)
    assert read_right(new)

    assert {folder.name for folder in (tmp_path / "cache").iterdir()} == {new.digest}
    assert read_right(old)


def test_a_cache_folder_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    store = open_cached(tmp_path / "store", tmp_path / "cache")
    store.read([0])

    shutil.rmtree(tmp_path / "cache")

    assert read_right(store)


@pytest.mark.parametrize("max_bytes", [0, 2 * 11 * (6 * 2) - 1])
def test_a_store_larger_than_the_cache_may_be_is_read_without_it(tmp_path: Path, max_bytes: int) -> None:
    write_store(tmp_path / "store", make_plan())

    store = open_cached(tmp_path / "store", tmp_path / "cache", max_bytes=max_bytes)

    assert not store.fits_cache()
    assert read_right(store)
    assert not (tmp_path / "cache").exists()
    remove_shards(tmp_path / "store")
    with pytest.raises(DamagedStore):
        open_cached(tmp_path / "store", tmp_path / "cache", max_bytes=max_bytes).read([0])


def test_a_store_exactly_as_large_as_the_cache_may_be_is_cached(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())

    store = open_cached(tmp_path / "store", tmp_path / "cache", max_bytes=STORE_BYTES)

    assert store.fits_cache()
    assert read_right(store)
    assert (tmp_path / "cache" / store.digest).is_dir()


@pytest.mark.slow
def test_two_processes_fill_one_cache_at_once(tmp_path: Path, workers: ProcessPoolExecutor) -> None:
    write_store(tmp_path / "store", make_plan(format="parquet", num_samples=200, num_views=1))
    store, start = open_cached(tmp_path / "store", tmp_path / "cache"), tmp_path / "start"

    answers = [workers.submit(read_row_by_row, store, start=start) for _ in range(2)]
    start.touch()

    assert [answer.result() for answer in answers] == [True, True]
    remove_shards(tmp_path / "store")
    assert read_right(open_cached(tmp_path / "store", tmp_path / "cache"))


def test_a_file_in_the_cache_folders_place_is_said(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    (tmp_path / "cache").write_text("not a folder")

    with pytest.raises(StoreWriteFailed, match="the row cache can't be written") as refused:
        open_cached(tmp_path / "store", tmp_path / "cache").read([0])

    assert "Mend the cause, choose another `cache.dir`, or read without it (`cache.max_bytes = 0`)." in str(
        refused.value
    )


def test_a_folder_in_the_place_of_rows_is_said(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    store = open_cached(tmp_path / "store", tmp_path / "cache")
    (tmp_path / "cache" / store.digest / "outputs-logits-view-00000.rows").mkdir(parents=True)

    with pytest.raises(
        StoreWriteFailed, match=re.escape("no plain file; remove it. Mend the cause, choose another `cache.dir`")
    ):
        store.read([0])


def test_a_full_disk_is_said_and_kills_no_process(
    tmp_path: Path, workers: ProcessPoolExecutor, resize_disk: Callable[[int], Path]
) -> None:
    """A page of a memory map for which there is no room would end the process with SIGBUS."""
    write_store(tmp_path / "store", make_plan(features={"pooled": (64, 64)}))
    store = open_cached(tmp_path / "store", resize_disk(96))

    for _ in range(2):
        with pytest.raises(StoreWriteFailed, match=re.escape("No space left on device. Make room, choose another")):
            workers.submit(read_right, store).result()

    resize_disk(4096)
    assert workers.submit(read_right, store).result()


# What others wrote.


def swap_rows(folder: Path, *, key: Callable[[int], str] | None) -> None:
    """As somebody does who can write there: each shard's rows in another order, and under the key their new hash."""
    path = folder / f"{NAME}.rows"
    rows = np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(11, 24)
    for part in range(3):
        swapped = np.ascontiguousarray(rows[4 * part : 4 * part + 4][::-1])
        with path.open("r+b") as file:
            file.seek(4 * part * 24)
            file.write(swapped.tobytes())
        digest = digest_of(swapped.data) if key is None else keyed_digest_of(swapped.data, key=key(part))
        (folder / f"{NAME}.part-{part:05d}").write_text(digest)


def test_a_hash_of_the_rows_alone_vouches_for_nothing(tmp_path: Path, shards: Shards) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    swap_rows(tmp_path, key=None)

    np.testing.assert_array_equal(open_rows(tmp_path, shards).take(StoreIndex(np.arange(11))), ROWS)


def test_rows_of_another_shard_under_their_own_hash_are_decoded_again(tmp_path: Path, shards: Shards) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    rows = (tmp_path / f"{NAME}.rows").read_bytes()
    (tmp_path / f"{NAME}.rows").write_bytes(rows[4 * 24 : 8 * 24] + rows[: 4 * 24] + rows[8 * 24 :])
    first, second = (tmp_path / f"{NAME}.part-0000{part}" for part in (0, 1))
    text = first.read_text()
    first.write_text(second.read_text())
    second.write_text(text)

    np.testing.assert_array_equal(open_rows(tmp_path, shards).take(StoreIndex(np.arange(11))), ROWS)


@pytest.mark.parametrize("check", ["some", "all"])
def test_rows_under_a_hash_that_fits_are_compared_with_the_store(tmp_path: Path, shards: Shards, check: Check) -> None:
    open_rows(tmp_path, shards).take(StoreIndex(np.arange(11)))
    swap_rows(tmp_path, key=lambda part: f"hashes of shard {part}")

    with pytest.warns(ChangedCache, match=r"held other rows than the store has for shard view-00001-part-0000\d"):
        taken = open_rows(tmp_path, shards, check=check).take(StoreIndex(np.arange(11)))

    is_right = [np.array_equal(taken[4 * part : 4 * part + 4], ROWS[4 * part : 4 * part + 4]) for part in range(3)]
    assert sum(is_right) == (1 if check == "some" else 3)


def test_a_link_in_the_place_of_rows_or_hashes_is_replaced_and_not_followed(tmp_path: Path, shards: Shards) -> None:
    folder, other = tmp_path / "cache", tmp_path / "other"
    folder.mkdir()
    other.write_bytes(b"private")
    (folder / f"{NAME}.rows").symlink_to(other)
    (folder / f"{NAME}.part-00000").symlink_to(other)
    os.mkfifo(folder / f"{NAME}.part-00001")

    for _ in range(2):
        np.testing.assert_array_equal(open_rows(folder, shards).take(StoreIndex(np.arange(11))), ROWS)

    assert shards.decoded == [0, 1, 2]
    assert other.read_bytes() == b"private"
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_what_is_cached_is_its_users_alone(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    store = open_cached(tmp_path / "store", tmp_path / "cache")
    (tmp_path / "cache" / store.digest).mkdir(parents=True, mode=0o755)

    store.read([0])

    assert stat.S_IMODE((tmp_path / "cache" / store.digest).stat().st_mode) == 0o700
    files = [path for path in (tmp_path / "cache" / store.digest).iterdir() if path.suffix == ".rows"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_cache_of_another_user_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    store = open_cached(tmp_path / "store", tmp_path / "cache")
    (tmp_path / "cache" / store.digest).mkdir(parents=True)
    os.chown(tmp_path / "cache" / store.digest, 65534, 65534)

    with pytest.raises(StoreWriteFailed, match=r"another user's, so that what it holds proves nothing. Choose"):
        store.read([0])


def test_a_link_in_the_place_of_a_stores_folder_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    store = open_cached(tmp_path / "store", tmp_path / "cache")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / store.digest).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreWriteFailed, match=r"is a link, no folder, or"):
        store.read([0])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def read_in_turn(roots: list[Path], *, cache: Path, start: Path, times: int) -> bool:
    """Each time from a new opening, for which the cache has no room beside the others."""
    while not start.exists():
        time.sleep(0.001)
    return all(read_right(open_cached(roots[turn % len(roots)], cache, max_bytes=4096)) for turn in range(times))


def test_processes_whose_stores_take_turns_in_a_small_cache_fail_none_of_each_others_reads(
    tmp_path: Path, workers: ProcessPoolExecutor
) -> None:
    roots = [tmp_path / name for name in ("one", "two", "three")]
    for root in roots:
        write_store(root, make_plan(features={"pooled": (len(root.name),)}))
    start, turns = tmp_path / "start", (roots, roots[::-1], roots[1:])

    answers = [workers.submit(read_in_turn, turn, cache=tmp_path / "cache", start=start, times=60) for turn in turns]
    start.touch()

    assert [answer.result() for answer in answers] == [True] * 3


# Options.


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidOption, match=re.escape("expected 0 or more")):
        CacheOptions(max_bytes=-1)


def test_the_cache_is_in_the_users_cache_folder_by_default() -> None:
    assert CacheOptions().folder == Path(platformdirs.user_cache_dir("softlab"))
    assert CacheOptions(dir=Path("here")).folder == Path("here")
