"""Outputs that have a row for each unit of a sample, compared with plain lists of arrays."""

import math
import pickle
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from softlab.errors import DamagedStore, TeacherError
from softlab.identity import digest_of
from softlab.manifest import FileRecord, encode
from softlab.store import shard_rows
from softlab.store.access import joining, writing
from softlab.store.cache import CacheOptions
from softlab.store.convert import convert_store
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from softlab.store.samples import encode_samples
from softlab.store.verify import verify_store
from tests.servers.web import serving
from tests.store.building import FORMATS, contents
from tests.store.unit_stores import (
    UnitModel,
    assert_holds,
    assert_holds_all,
    assert_same_labels,
    fill,
    make_unit_plan,
    make_unit_samples,
    unit_models,
    write_unit_shard,
    write_units,
)

NO_CACHE = CacheOptions(max_bytes=0)
OTHER: dict[FormatName, FormatName] = {"zarr": "parquet", "parquet": "zarr"}
BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
ROWS = (2, 0, 3, 1, 4, 1, 2)
"""Of each sample of the stores that are not drawn."""


def some_model(*, format: FormatName = "zarr", rows_N: Sequence[int] = ROWS, **values: Any) -> UnitModel:
    return fill(make_unit_plan(rows_N, format=format, **values), rows_N)


# Reading.


@settings(max_examples=8)  # each opens a store in five ways
@given(model=unit_models(), data=st.data())
def test_any_samples_are_read_in_any_order_and_view(
    tmp_path_factory: pytest.TempPathFactory, model: UnitModel, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("units")
    write_units(root / "store", model)
    cached = open_store(root / "store", cache=CacheOptions(dir=root / "cache"))
    uncached = open_store(root / "store", cache=NO_CACHE)
    numbers, views = st.integers(0, len(model.rows_N) - 1), st.integers(0, model.plan.views.num_views - 1)
    requests = data.draw(st.lists(st.lists(st.tuples(numbers, views), max_size=12), min_size=1, max_size=3))

    assert verify_store(root / "store").is_intact
    for request in requests:
        samples, own_views = [sample for sample, _ in request], [view for _, view in request]
        for store in (cached, uncached, pickle.loads(pickle.dumps(cached)), pickle.loads(pickle.dumps(uncached))):
            assert_holds(store, model, samples, own_views)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_rows, "DECODED_BYTES", 0)  # one shard in memory at a time
        tight = open_store(root / "store", cache=NO_CACHE)
        for request in requests:
            assert_holds(tight, model, [sample for sample, _ in request], [view for _, view in request])
            assert_holds(tight, model, [sample for sample, _ in request], [0] * len(request))
    for store in (cached, uncached):
        assert_holds_all(store, model)


def test_rows_in_the_cache_of_another_process_are_read(tmp_path: Path) -> None:
    """A second store finds them by the hashes of their shards."""
    model = some_model()
    write_units(tmp_path / "store", model)
    assert_holds_all(open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache")), model)
    second = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache", check="none"))
    shutil.rmtree(tmp_path / "store/outputs")

    assert_holds_all(second, model)


@BOTH_FORMATS
def test_a_store_on_a_server_is_read(tmp_path: Path, format: FormatName) -> None:
    model = some_model(format=format)
    write_units(tmp_path / "store", model)

    with serving(tmp_path) as url:
        store = open_store(f"{url}/store", cache=CacheOptions(dir=tmp_path / "cache"))
        store.prefetch([6, 0], view=[1, 0])
        store.prefetch([6, 0], view=1, feature="states")

        assert_holds(store, model, [6, 0, 1, 6], [1, 0, 1, 1])
        assert_holds_all(store, model)


def test_labels_of_some_samples_are_split_off_with_all_their_rows(tmp_path: Path) -> None:
    model = some_model()
    write_units(tmp_path, model)
    store = open_store(tmp_path, cache=NO_CACHE)

    first, second = store.read([4, 1, 0, 6]).split([3, 1])

    assert (len(first), len(second)) == (4 + 0 + 2, 2)
    for part, samples in ((first, [4, 1, 0]), (second, [6])):
        assert_same_labels(part, store.read(samples))
        assert part.counts_B is not None
        assert part.counts_B.tolist() == model.rows_N[samples].tolist()


# Writing.


@given(model=unit_models(), data=st.data())
@settings(max_examples=6)
def test_neither_interruptions_nor_the_order_of_shards_change_a_byte(
    tmp_path_factory: pytest.TempPathFactory, model: UnitModel, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("units")
    order = data.draw(st.permutations(range(len(model.plan.grid))))
    stop = data.draw(st.integers(0, len(order)))
    write_units(root / "whole", model)

    with writing(root / "resumed", model.plan) as writer:
        for number in order[:stop]:
            write_unit_shard(writer, model, list(model.plan.grid)[number])
    write_units(root / "resumed", model)
    write_units(root / "shuffled", model, order=order)

    assert contents(root / "resumed") == contents(root / "whole") == contents(root / "shuffled")


@BOTH_FORMATS
def test_views_are_added_to_a_finished_store(tmp_path: Path, format: FormatName) -> None:
    model = some_model(format=format)
    views = msgspec.structs.replace(model.plan.views, num_views=1)
    write_units(tmp_path, replace(model, plan=msgspec.structs.replace(model.plan, views=views)))
    parent = open_store(tmp_path).digest

    write_units(tmp_path, replace(model, plan=msgspec.structs.replace(model.plan, parent=parent)))

    assert verify_store(tmp_path).is_intact
    assert_holds_all(open_store(tmp_path, cache=NO_CACHE), model)


@given(model=unit_models())
@settings(max_examples=6)
def test_a_conversion_there_and_back_changes_no_row(tmp_path_factory: pytest.TempPathFactory, model: UnitModel) -> None:
    root = tmp_path_factory.mktemp("units")
    format = model.plan.storage.format
    write_units(root / "store", model)

    convert_store(open_store(root / "store", cache=NO_CACHE), root / "other", format=OTHER[format])
    convert_store(open_store(root / "other", cache=NO_CACHE), root / "back", format=format)

    assert verify_store(root / "other").is_intact
    assert_holds_all(open_store(root / "other", cache=NO_CACHE), model)
    old, back = contents(root / "store"), contents(root / "back")
    assert {name for name in old.keys() | back.keys() if old.get(name) != back.get(name)} == {"manifest.json"}


# Other readers.


def opened_by_zarr(path: Path) -> Any:
    return zarr.open_group(path, mode="r")


@given(model=unit_models().filter(lambda model: model.plan.storage.format == "zarr"))
@settings(max_examples=6)
def test_zarr_alone_finds_the_rows_of_a_shard_at_the_beginning_of_its_place(
    tmp_path_factory: pytest.TempPathFactory, model: UnitModel
) -> None:
    root, plan = tmp_path_factory.mktemp("units"), model.plan
    write_units(root, model)

    group = opened_by_zarr(root)

    for output in plan.outputs:
        attributes = dict(group[f"outputs/{output.name}"].attrs)
        capacity = attributes["shard_units"] if output.units else plan.storage.shard_rows
        assert not output.units or attributes["shard_samples"] == plan.storage.shard_rows
        for field in plan.storage.fields_of(f"outputs/{output.name}"):
            array = group[field.name][:]
            for shard in plan.grid:
                expected = model.in_shard(shard)[field.name]
                place = array[shard.view, shard.part * capacity : (shard.part + 1) * capacity]
                np.testing.assert_array_equal(place[: len(expected)], expected, strict=True)
                assert not place[len(expected) :].any()


@given(model=unit_models().filter(lambda model: model.plan.storage.format == "parquet"))
@settings(max_examples=6)
def test_pyarrow_alone_finds_a_row_for_each_unit_and_its_sample(
    tmp_path_factory: pytest.TempPathFactory, model: UnitModel
) -> None:
    root, plan = tmp_path_factory.mktemp("units"), model.plan
    write_units(root, model)

    for output in plan.outputs:
        for shard in plan.grid:
            path = f"outputs/{output.name}/view={shard.view:05d}/part-{shard.part:05d}.parquet"
            table = pq.ParquetFile(root / path).read()
            samples = np.arange(shard.start, shard.stop)
            counts = model.rows_N[shard.start : shard.stop] if output.units else 1
            assert table["sample"].to_pylist() == np.repeat(samples, counts).tolist()
            for field in plan.storage.fields_of(f"outputs/{output.name}"):
                expected = model.in_shard(shard)[field.name]
                flat = expected.reshape(len(expected), math.prod(field.row_shape)) if field.row_shape else expected
                assert table[field.short_name].to_pylist() == flat.tolist()


@BOTH_FORMATS
def test_pyarrow_alone_finds_how_many_rows_a_sample_has(tmp_path: Path, format: FormatName) -> None:
    write_units(tmp_path, some_model(format=format))

    assert pq.read_table(tmp_path / "samples.parquet")["rows"].to_pylist() == list(ROWS)


# What is refused.


@BOTH_FORMATS
def test_a_shard_with_more_rows_than_room_is_refused(tmp_path: Path, format: FormatName) -> None:
    model = some_model(format=format, shard_rows=3, spare_chunks=0)  # the fullest shard has 6 rows
    crowded = fill(model.plan, (2, 0, 5, 1, 4, 1, 2))

    with writing(tmp_path, model.plan) as writer, pytest.raises(TeacherError) as refused:
        write_unit_shard(writer, crowded, model.plan.grid.shard(0, 0))

    assert str(refused.value) == (
        f"{tmp_path}: samples 0 to 2 have 7 rows, the longest of them 5, but a shard has room for 6. Dump with fewer "
        f"samples a shard (`dump.shard_rows`), or shorten the samples."
    )
    write_units(tmp_path, model)
    assert_holds_all(open_store(tmp_path, cache=NO_CACHE), model)


SHORTER = (2, 0, 3, 1, 4, 0, 2)
"""`ROWS`, but sample 5 has no row."""


@BOTH_FORMATS
def test_another_number_of_rows_in_another_view_is_refused(tmp_path: Path, format: FormatName) -> None:
    model = some_model(format=format)
    other = fill(model.plan, SHORTER)

    with writing(tmp_path, model.plan) as writer:
        write_unit_shard(writer, model, model.plan.grid.shard(0, 1))
        with pytest.raises(TeacherError, match=re.escape("sample 5 has 0 rows in view 1, but 1 in another one. Use")):
            write_unit_shard(writer, other, model.plan.grid.shard(1, 1))

    write_units(tmp_path, model)
    assert_holds_all(open_store(tmp_path, cache=NO_CACHE), model)


def test_another_number_of_rows_in_an_added_view_is_refused(tmp_path: Path) -> None:
    plan = some_model().plan
    views = msgspec.structs.replace(plan.views, num_views=1)
    write_units(tmp_path, fill(msgspec.structs.replace(plan, views=views), ROWS))
    plan = msgspec.structs.replace(plan, parent=open_store(tmp_path).digest)

    with writing(tmp_path, plan) as writer, pytest.raises(TeacherError, match="sample 5 has 0 rows in view 1, but 1"):
        write_unit_shard(writer, fill(plan, SHORTER), plan.grid.shard(1, 1))


@BOTH_FORMATS
def test_another_number_of_rows_from_another_process_is_found_at_the_end(tmp_path: Path, format: FormatName) -> None:
    """Neither of the two sees what the other one writes meanwhile."""
    model = some_model(format=format)
    first_view, second_view = ([shard for shard in model.plan.grid if shard.view == view] for view in range(2))

    with writing(tmp_path, model.plan, lets_others_join=True) as writer, joining(tmp_path, model.plan) as other:
        for shard in first_view:
            write_unit_shard(writer, model, shard)
        for shard in second_view:
            write_unit_shard(other, fill(model.plan, SHORTER), shard)
        writer.reread()

        with pytest.raises(TeacherError, match=re.escape("sample 5 has 0 rows in view 1, but 1 in another one. Use")):
            writer.finalize(make_unit_samples(model))

    assert not (tmp_path / "manifest.json").exists()


def replace_samples(store: Path, rows_N: Sequence[int] | None, model: UnitModel) -> Store:
    """The store with another table of samples, which its manifest vouches for."""
    counts = None if rows_N is None else np.array(rows_N, dtype=np.int64)
    data = encode_samples(replace(make_unit_samples(model), rows_N=counts))
    manifest = open_store(store).manifest
    (store / "samples.parquet").write_bytes(data)
    record = FileRecord(path="samples.parquet", bytes=len(data), blake3=digest_of(data))
    (store / "manifest.json").write_bytes(encode(msgspec.structs.replace(manifest, samples_file=record)))
    return open_store(store, cache=NO_CACHE)


@pytest.mark.parametrize(
    ("rows_N", "problem"),
    [
        (None, "counts of rows are missing"),
        ((2, 0, 3, 1, 8, 1, 2), "a shard's samples have more rows than it has room for"),
        ((2, 0, 3, 1, -4, 1, 2), "samples of -4 to 3 rows"),
        ((2, 0, 3, 1 << 62, 4, 1, 2), "samples of 0 to"),
    ],
)
def test_counts_of_rows_that_can_not_be_are_damage(tmp_path: Path, rows_N: Sequence[int] | None, problem: str) -> None:
    model = some_model()
    write_units(tmp_path, model)

    store = replace_samples(tmp_path, rows_N, model)

    for read in (store.read_samples, lambda: store.read([0]), lambda: store.read_features("states", [0])):
        with pytest.raises(DamagedStore, match=f"its table of samples: .*{problem}.* Get the store again"):
            read()


def test_a_parquet_shard_with_other_rows_than_its_samples_is_damage(tmp_path: Path) -> None:
    model = some_model(format="parquet")
    write_units(tmp_path, model)

    store = replace_samples(tmp_path, SHORTER, model)

    with pytest.raises(DamagedStore, match=re.escape("a file of 6 rows instead of 5")):
        store.read([3])


def test_a_manifest_that_tells_fewer_entries_than_there_are_makes_no_room_for_them(tmp_path: Path) -> None:
    manifest = write_units(tmp_path / "store", some_model(is_sampled=True))
    told = {
        name: each if each.entries is UNSET else msgspec.structs.replace(each, entries=3)
        for name, each in manifest.statistics.items()
    }
    (tmp_path / "store/manifest.json").write_bytes(encode(msgspec.structs.replace(manifest, statistics=told)))

    with pytest.raises(DamagedStore, match=r"entries or more, its manifest tells 3\. Get the store again"):
        open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache")).read(range(len(ROWS)))
    assert not list((tmp_path / "cache").rglob("*entries*.rows"))
