import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from softlab.errors import DamagedStore, StoreExists
from softlab.labels.coding import Coding
from softlab.manifest import Manifest
from softlab.store.cache import CacheOptions
from softlab.store.convert import convert_store
from softlab.store.folder import count_finished_shards
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from softlab.store.verify import verify_store
from tests.store.building import CODINGS, FORMATS, contents, flip_byte, make_arrays, make_plan, write_store
from tests.store.remote import upload

OTHER: dict[FormatName, FormatName] = {"zarr": "parquet", "parquet": "zarr"}
FEATURES: dict[str, tuple[int, ...]] = {"pooled": (6,), "map": (3, 2), "norm": ()}
NO_CACHE = CacheOptions(max_bytes=0)
BOTH_DIRECTIONS = pytest.mark.parametrize("format", FORMATS)


class Interrupted(Exception):
    pass


def interrupt(done: int, total: int) -> None:
    if done == 2:
        raise Interrupted


def make_store(root: Path, *, format: FormatName = "zarr", coding: Coding = "float16") -> Store:
    write_store(root, make_plan(format=format, coding=coding, features=FEATURES))
    return open_store(root, cache=NO_CACHE)


def parts_that_differ(one: Manifest, other: Manifest) -> set[str]:
    return {name for name in Manifest.__struct_fields__ if getattr(one, name) != getattr(other, name)}


@pytest.mark.parametrize("coding", CODINGS)
@BOTH_DIRECTIONS
def test_the_rows_are_the_same_to_the_bit(tmp_path: Path, format: FormatName, coding: Coding) -> None:
    store = make_store(tmp_path / "old", format=format, coding=coding)

    convert_store(store, tmp_path / "new", format=OTHER[format])

    new = open_store(tmp_path / "new", cache=NO_CACHE)
    assert new.manifest.storage.format == OTHER[format]
    for field in store.manifest.storage.fields:
        for shard in store.manifest.grid:
            found = new.read_shard(shard, group=field.group)[field.name]
            expected = make_arrays(store.manifest)[field.name][shard.view, shard.start : shard.stop]
            np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.process
def test_a_store_is_converted_from_one_address_to_another(tmp_path: Path, bucket: str) -> None:
    store = make_store(tmp_path / "old")
    upload(tmp_path / "old", f"{bucket}/old")

    convert_store(store, tmp_path / "new", format="parquet")
    convert_store(open_store(f"{bucket}/old", cache=NO_CACHE), f"{bucket}/new", format="parquet")

    assert open_store(f"{bucket}/new").digest == open_store(tmp_path / "new").digest
    assert verify_store(f"{bucket}/new").is_intact


@BOTH_DIRECTIONS
def test_a_converted_store_is_a_whole_one_that_names_its_parent(tmp_path: Path, format: FormatName) -> None:
    store = make_store(tmp_path / "old", format=format)

    manifest = convert_store(store, tmp_path / "new", format=OTHER[format])

    assert verify_store(tmp_path / "new").is_intact
    assert manifest == open_store(tmp_path / "new").manifest
    assert manifest.parent == store.digest
    assert parts_that_differ(manifest, store.manifest) == {"storage", "parent", "layout_files", "shards"}
    assert msgspec.structs.replace(manifest.storage, format=format) == store.manifest.storage
    assert [shard.statistics for shard in manifest.shards] == [shard.statistics for shard in store.manifest.shards]


@BOTH_DIRECTIONS
def test_there_and_back_again_gives_the_same_files(tmp_path: Path, format: FormatName) -> None:
    store = make_store(tmp_path / "old", format=format)
    convert_store(store, tmp_path / "new", format=OTHER[format])

    convert_store(open_store(tmp_path / "new", cache=NO_CACHE), tmp_path / "back", format=format)

    old, back = contents(tmp_path / "old"), contents(tmp_path / "back")
    assert {name for name in old.keys() | back.keys() if old.get(name) != back.get(name)} == {"manifest.json"}


@BOTH_DIRECTIONS
def test_an_interrupted_conversion_goes_on(tmp_path: Path, format: FormatName) -> None:
    store = make_store(tmp_path / "old", format=format)
    convert_store(store, tmp_path / "whole", format=OTHER[format])
    with pytest.raises(Interrupted):
        convert_store(store, tmp_path / "new", format=OTHER[format], on_shard=interrupt)
    assert count_finished_shards(tmp_path / "new") == 2
    seen: list[tuple[int, int]] = []

    convert_store(
        store, tmp_path / "new", format=OTHER[format], on_shard=lambda done, total: seen.append((done, total))
    )

    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert contents(tmp_path / "new") == contents(tmp_path / "whole")


def test_a_finished_conversion_is_not_done_again(tmp_path: Path) -> None:
    store = make_store(tmp_path / "old")
    first = convert_store(store, tmp_path / "new", format="parquet")

    assert convert_store(store, tmp_path / "new", format="parquet", on_shard=interrupt) == first


def test_a_store_is_not_converted_into_itself(tmp_path: Path) -> None:
    store = make_store(tmp_path / "old")
    before = contents(tmp_path / "old")

    with pytest.raises(StoreExists, match="Choose another folder, or remove that one"):
        convert_store(store, tmp_path / "old", format="parquet")

    assert contents(tmp_path / "old") == before


def test_damage_is_not_carried_over(tmp_path: Path) -> None:
    store = make_store(tmp_path / "old")
    flip_byte(tmp_path / "old/outputs/logits/logits/c/1/0/0")

    with pytest.raises(DamagedStore, match=re.escape("get those files again, or dump again.")):
        convert_store(store, tmp_path / "new", format="parquet")

    assert count_finished_shards(tmp_path / "new") == 3
