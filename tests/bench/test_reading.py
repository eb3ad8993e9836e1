from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softlab.bench.reading import ReadRate, map_plain_rows, measure_reading
from softlab.errors import NotAStore, UnfinishedStore
from softlab.manifest import StorePlan
from softlab.store.cache import CacheOptions
from softlab.store.decoded_groups import DecodedGroups
from softlab.store.reader import Store, open_store
from tests.store.building import FORMATS, make_arrays, make_plan, write_some, write_store

LABELS = [
    ("random", "plain file", "packed"),
    ("random", "row cache", "packed"),
    ("in order", "row cache", "packed"),
    ("random", "row cache", "tensors"),
    ("in order", "row cache", "tensors"),
    ("block-shuffled", "compressed shards", "packed"),
    ("in order", "compressed shards", "packed"),
    ("block-shuffled", "compressed shards", "tensors"),
    ("in order", "compressed shards", "tensors"),
    ("in order", "first touch", "packed"),
]
FEATURES = [
    ("random", "plain file", "packed"),
    ("random", "row cache", "packed"),
    ("random", "row cache", "tensors"),
    ("in order", "compressed shards", "packed"),
    ("in order", "compressed shards", "tensors"),
    ("in order", "first touch", "packed"),
]

ROW_BYTES = 18
"""Of three classes, as they are packed."""


def make(**options: Any) -> StorePlan:
    return make_plan(**({"num_samples": 40, "num_views": 1, "shard_rows": 4} | options))


def kinds(reads: list[ReadRate], group: str) -> list[tuple[str, str, str]]:
    return [(read.order, read.place, read.form) for read in reads if read.group == group]


@pytest.mark.parametrize("format", FORMATS)
def test_labels_and_each_feature_are_read_in_all_ways(tmp_path: Path, format: Any) -> None:
    write_store(tmp_path / "store", make(format=format, features={"pooled": (6,), "map": (2, 3)}))

    reads = measure_reading(tmp_path / "store", rounds=1)

    assert kinds(reads, "labels") == LABELS
    assert kinds(reads, "features/pooled") == FEATURES
    assert kinds(reads, "features/map") == FEATURES
    assert len(reads) == len(LABELS) + 2 * len(FEATURES)
    assert all(read.rows_per_second > 0 and read.relative > 0 for read in reads)


def test_rates_are_relative_to_the_plain_file_of_the_same_group(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make())

    reads = measure_reading(tmp_path / "store", rounds=2)

    for group in ["labels", "features/pooled"]:
        limit, *others = [read for read in reads if read.group == group]
        assert limit.relative == 1
        assert all(read.relative == read.rows_per_second / limit.rows_per_second for read in others)


def test_what_does_not_fit_the_row_cache_is_read_from_shards_alone(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make())

    reads = measure_reading(tmp_path / "store", rounds=1, cache=CacheOptions(max_bytes=0))

    assert {read.place for read in reads} == {"plain file", "compressed shards"}


def test_only_as_many_rows_are_read_as_the_plain_file_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "store", make(num_samples=300, shard_rows=40, features={}))
    sizes: list[int] = []
    memmap = np.memmap

    def spy(path: Path, **options: Any) -> Any:
        sizes.append(path.stat().st_size)
        return memmap(path, **options)

    monkeypatch.setattr("numpy.memmap", spy)

    measure_reading(tmp_path / "store", rounds=1, max_plain_bytes=280 * ROW_BYTES)

    assert sizes == [280 * ROW_BYTES]


def test_each_compressed_turn_decodes_every_shard_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "store", make(features={}))
    decoded: list[tuple[str, int]] = []
    turns: list[tuple[str, list[int]]] = []
    turn = "setup"
    read_into: Callable[..., Any] = DecodedGroups.read_into

    def count(groups: DecodedGroups, arrays: Any, shard: Any, **options: Any) -> Any:
        decoded.append((turn, shard.part))
        return read_into(groups, arrays, shard, **options)

    def next_turn(name: str, done: int, total: int) -> None:
        nonlocal turn
        turns.append((name, sorted(part for each, part in decoded if each == turn)))
        turn = str(done)

    monkeypatch.setattr(DecodedGroups, "read_into", count)

    measure_reading(tmp_path / "store", rounds=2, on_turn=next_turn)

    whole = list(range(10))
    compressed = [parts for name, parts in turns if "compressed" in name or "first touch" in name]
    cached = [parts for name, parts in turns[1:] if "row cache" in name or "plain file" in name]
    assert compressed == [whole] * 15
    assert cached == [[]] * 14


def test_the_users_row_cache_is_left_as_it_is(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make())
    other = tmp_path / "cache/other/labels-view-00000.rows"
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(100_000))

    measure_reading(tmp_path / "store", rounds=1, cache=CacheOptions(dir=tmp_path / "cache", max_bytes=50_000))

    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [other]


def test_turns_are_reported_with_what_is_read(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make())
    reported: list[tuple[str, int, int]] = []

    measure_reading(tmp_path / "store", rounds=1, on_turn=lambda *turn: reported.append(turn))

    assert reported[0] == ("labels: random, plain file, packed", 1, 20)
    assert reported[-1] == ("features/pooled: in order, first touch, packed", 12, 12)


def test_no_store_and_an_unfinished_one_are_refused(tmp_path: Path) -> None:
    write_some(tmp_path / "unfinished", make(), num_shards=1)

    with pytest.raises(NotAStore):
        measure_reading(tmp_path / "nothing")
    with pytest.raises(UnfinishedStore):
        measure_reading(tmp_path / "unfinished")


# The plain file that reading is compared with.

PLAN = make_plan(num_samples=70, shard_rows=16, features={"pooled": (6,), "map": (2, 3)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    write_store(tmp_path / "store", PLAN)
    return open_store(tmp_path / "store", cache=CacheOptions(max_bytes=0))


@pytest.mark.parametrize("num_rows", [70, 33, 1])
def test_the_plain_file_holds_the_first_packed_rows(store: Store, tmp_path: Path, num_rows: int) -> None:
    expected = store.read_packed(np.arange(num_rows))

    rows = map_plain_rows(tmp_path / "rows", store, feature=None, row_bytes=expected.shape[1], num_rows=num_rows)

    assert np.array_equal(rows, expected)
    assert (tmp_path / "rows").stat().st_size == expected.size


@pytest.mark.parametrize("name", ["pooled", "map"])
def test_the_plain_file_of_a_feature_holds_it_as_it_is_stored(store: Store, tmp_path: Path, name: str) -> None:
    stored = make_arrays(PLAN)[f"outputs/{name}/values"][0]

    rows = map_plain_rows(tmp_path / "rows", store, feature=name, row_bytes=12, num_rows=50)

    assert rows.tobytes() == stored[:50].tobytes()
    assert rows.shape == (50, 12)
