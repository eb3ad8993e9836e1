"""Training from a store that is larger than the row cache may be."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import SlowReads
from softlab.shards import Shard
from softlab.store import shard_rows
from softlab.store.cache import CacheOptions
from softlab.store.decoded_groups import DecodedGroups
from softlab.store.format import Array
from softlab.store.reader import Store, open_store
from tests.student.fashion import NUM_TRAIN, dump, make_student, same_weights, train

NUM_SHARDS = 19
RUN: dict[str, Any] = {"epochs": 2, "batch_size": 30, "shuffle": "blocks"}


def uncached(path: Path) -> Store:
    return open_store(path, cache=CacheOptions(max_bytes=0))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of many shards."""
    return dump(tmp_path_factory.mktemp("blocks") / "store", shard_rows=16)


def test_shuffled_as_a_whole_such_a_store_is_warned_about_with_what_to_say_instead(path: Path) -> None:
    with pytest.warns(SlowReads, match=r"Say `distil\.shuffle = blocks`, or .* `cache\.max_bytes`"):
        train(make_student(), uncached(path), epochs=1)


def test_in_blocks_each_shard_is_decoded_once_an_epoch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, decoded = uncached(path), Counter[int]()
    read_into = DecodedGroups.read_into

    def count(groups: DecodedGroups, arrays: Mapping[str, Array], shard: Shard, *, group: str) -> None:
        decoded[shard.part] += 1
        read_into(groups, arrays, shard, group=group)

    monkeypatch.setattr(DecodedGroups, "read_into", count)
    assert store.manifest.grid.parts_per_view == NUM_SHARDS

    train(make_student(), store, **RUN)

    first_batch_and_checks = 2
    assert sum(decoded.values()) <= (RUN["epochs"] + first_batch_and_checks) * NUM_SHARDS
    assert len(decoded) == NUM_SHARDS


def test_the_row_cache_changes_nothing_but_the_speed(path: Path, tmp_path: Path) -> None:
    cached, streamed = make_student(), make_student()

    train(cached, open_store(path, cache=CacheOptions(dir=tmp_path / "cache")), **RUN)
    train(streamed, uncached(path), **RUN)

    assert same_weights(cached, streamed)


def test_blocks_make_another_order_than_a_full_shuffle_but_of_the_same_samples(path: Path, tmp_path: Path) -> None:
    store = open_store(path, cache=CacheOptions(dir=tmp_path / "cache"))
    in_full, in_blocks = make_student(), make_student()

    (full,) = train(in_full, store, epochs=2, batch_size=30)
    (blocks,) = train(in_blocks, store, **RUN)

    assert not same_weights(in_full, in_blocks)
    assert full.train_loss is not None
    assert blocks.train_loss == pytest.approx(full.train_loss, rel=0.3)


def test_no_more_than_a_few_shards_are_kept_decoded_however_many_there_are(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_rows, "DECODED_SHARDS", 2)
    store = uncached(path)

    for number in range(NUM_TRAIN):
        store.read([number])

    (rows,) = store._groups._opened.values()
    assert rows.nbytes == 2 * 16 * store.read_packed([0]).nbytes  # type: ignore[union-attr]
