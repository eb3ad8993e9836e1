"""Stores of format 3, whose table of samples lies in several files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlab.card.render import CARD_NAME
from softlab.errors import DamagedStore, InvalidOption
from softlab.identity import ContentHashes
from softlab.keys import Keys
from softlab.loading.sample_check import align
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.store.access import writing
from softlab.store.cache import CacheOptions
from softlab.store.convert import convert_store
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from softlab.store.samples import SampleTable
from softlab.store.verify import verify_store
from softlab.teacher.job import finalize
from tests.sharing.pulling import assert_same_rows, open_uncached, publish, pull_part_of_part, write_keys
from tests.store.building import (
    FORMATS,
    contents,
    flip_byte,
    make_arrays,
    make_plan,
    make_samples,
    with_digests,
    write_shard,
    write_store,
)
from tests.store.parts import few_samples_are_very_many, in_its_format
from tests.store.remote import open_counted
from tests.store.test_format_page import assert_reads_the_same
from tests.store.unit_stores import UnitModel, assert_holds_all, unit_models, write_units
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, dump, make_options, stop_at

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
PARTS = ["samples/part-00000.parquet", "samples/part-00001.parquet", "samples/part-00002.parquet"]
"""Of 11 samples."""


@pytest.fixture(scope="module", autouse=True)
def _parts() -> Iterator[None]:
    with few_samples_are_very_many(large_table=3):
        yield


def write(root: Path, *, format: FormatName = "zarr", num_samples: int = 11, num_views: int = 2) -> Store:
    plan = make_plan(format=format, num_samples=num_samples, num_views=num_views)
    write_store(root, in_its_format(with_digests(plan, every=2)))
    return open_uncached(root)


def paths_of_samples(store: Store) -> list[str]:
    return [file.path for file in store.manifest.samples_files]


# What is written.


def test_very_many_samples_have_several_files_and_the_format_says_so(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small", num_samples=6), write(tmp_path / "large", num_samples=11)

    assert (small.manifest.format_version, paths_of_samples(small)) == (2, ["samples.parquet"])
    assert (large.manifest.format_version, paths_of_samples(large)) == (3, PARTS)
    assert not (tmp_path / "large/samples.parquet").exists()
    assert b"further_samples" not in (tmp_path / "small/manifest.json").read_bytes()
    tree = json.loads((tmp_path / "large/manifest.json").read_bytes())
    assert (tree["samples_file"]["path"], tree["further_samples"]["part_rows"]) == (PARTS[0], 4)
    assert "samples/*.parquet" in (tmp_path / "large" / CARD_NAME).read_text()


@settings(max_examples=10)
@given(
    num_samples=st.integers(1, 20),
    num_views=st.integers(1, 2),
    format=st.sampled_from(FORMATS),
)
def test_a_reader_that_knows_only_the_page_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, num_samples: int, num_views: int, format: FormatName
) -> None:
    root = tmp_path_factory.mktemp("store")

    store = write(root, format=format, num_samples=num_samples, num_views=num_views)

    assert store.manifest.format_version == (3 if num_samples > 6 else 2)
    assert_reads_the_same(root)
    assert verify_store(root).is_intact


@settings(max_examples=5)
@given(model=unit_models(min_samples=7), data=st.data())
def test_stores_with_units_and_parts_of_parts_of_them_hold_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, model: UnitModel, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("units")
    model = replace(model, plan=in_its_format(model.plan))
    write_units(folder / "whole", model)

    part = pull_part_of_part(folder / "whole", data)

    assert open_uncached(folder / "whole").manifest.format_version == 3
    assert part.store.manifest.format_version == (3 if len(part.samples) > 6 else 2)
    assert_holds_all(open_uncached(folder / "whole"), model)
    assert_holds_all(part.store, model, samples=part.samples, views=part.views)


@BOTH_FORMATS
def test_an_interrupted_dump_is_finished_by_whoever_comes(tmp_path: Path, format: FormatName) -> None:
    plan = in_its_format(make_plan(format=format))
    table, arrays = make_samples(plan), make_arrays(plan)
    known = replace(table, content_hashes=ContentHashes.from_bytes(bytes(16 * len(table))))
    write_store(tmp_path / "alone", plan)

    with writing(tmp_path / "store", plan, expected=lambda: known) as writer:
        for shard in writer.pending:
            write_shard(writer, shard, arrays)
    finalize(tmp_path / "store")

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_dumps_of_a_teacher_have_parts_and_views_are_added_to_them(tmp_path: Path) -> None:
    first = dump(tmp_path / "store", make_options(views=1), augment=AUGMENT).manifest
    before = contents(tmp_path / "store")

    again = dump(tmp_path / "store", make_options(views=1), augment=AUGMENT)
    more = dump(tmp_path / "store", make_options(views="+1"), augment=AUGMENT).manifest

    assert first.format_version == more.format_version == 3
    assert again.rows_computed == 0
    assert more.samples_files == first.samples_files
    assert {path: data for path, data in contents(tmp_path / "store").items() if path.startswith("samples/")} == {
        path: data for path, data in before.items() if path.startswith("samples/")
    }
    assert verify_store(tmp_path / "store").is_intact
    assert_reads_the_same(tmp_path / "store")


def test_a_dump_that_was_begun_for_one_file_goes_on_so(tmp_path: Path) -> None:
    """By a softlab that knew no parts, say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softlab.manifest.sample_parts.MOST_IN_ONE_FILE", 1000)
        with pytest.raises(KeyboardInterrupt):
            dump(tmp_path / "store", on_progress=stop_at(33))

    found = dump(tmp_path / "store")

    assert found.rows_computed < 50
    assert [file.path for file in found.manifest.samples_files] == ["samples.parquet"]
    assert_reads_the_same(tmp_path / "store")


def test_a_store_that_was_finished_in_one_file_stays_so_when_views_are_added(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softlab.manifest.sample_parts.MOST_IN_ONE_FILE", 1000)
        dump(tmp_path / "store", make_options(views=1), augment=AUGMENT)

    more = dump(tmp_path / "store", make_options(views="+1"), augment=AUGMENT).manifest

    assert (more.format_version, [file.path for file in more.samples_files]) == (2, ["samples.parquet"])
    assert_reads_the_same(tmp_path / "store")


def test_a_conversion_has_the_parts_that_a_new_store_has(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole")

    convert_store(whole, tmp_path / "other", format="parquet")
    convert_store(open_uncached(tmp_path / "other"), tmp_path / "back", format="zarr")

    back = open_uncached(tmp_path / "back")
    assert (back.manifest.format_version, paths_of_samples(back)) == (3, PARTS)
    assert_same_rows(back, whole, views=range(2), features=whole.feature_names, samples=range(11))
    assert_reads_the_same(tmp_path / "other")
    assert_reads_the_same(tmp_path / "back")


# What is read.


@pytest.fixture(params=["here", "elsewhere", "elsewhere, no row cache"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    write(tmp_path / "store", num_samples=19)
    max_bytes = 0 if "no" in request.param else 64 << 20
    cache = CacheOptions(dir=tmp_path / "cache", max_bytes=max_bytes)
    if request.param == "here":
        return open_store(tmp_path / "store", cache=cache)
    return open_counted(tmp_path / "store", cache=cache)[0]


def test_a_store_tells_of_its_samples_what_its_whole_table_tells(store: Store) -> None:
    table, chosen = store.read_samples(), [18, 3, 3, 0, 15, 4, 8, 7]

    assert store.has_large_table
    assert table.keys == [f"{number:03d}.png" for number in range(19)]
    assert Keys.join(store.read_keys()) == list(table.keys)
    assert np.concatenate(list(store.read_content_hashes())).tobytes() == b"".join(table.content_hashes)
    assert store.read_recipe_indices() is None
    assert [row.tobytes() for row in store.content_hashes_of(chosen)] == [table.content_hashes[each] for each in chosen]
    found = store.read_samples_at(chosen)
    assert list(found.keys) == [table.keys[index] for index in chosen]
    assert list(found.content_hashes) == [table.content_hashes[index] for index in chosen]
    assert table.targets_N is not None
    assert found.targets_N is not None
    assert found.targets_N.tolist() == table.targets_N[chosen].tolist()
    assert len(store.read_samples_at([])) == 0


@given(samples=st.lists(st.integers(0, 18), max_size=12))
def test_any_samples_are_read_in_the_order_asked_for(
    tmp_path_factory: pytest.TempPathFactory, samples: list[int]
) -> None:
    store, table = TABLE_OF.get(tmp_path_factory)

    found = store.read_samples_at(samples)

    assert list(found.keys) == [table.keys[index] for index in samples]
    assert list(found.content_hashes) == [table.content_hashes[index] for index in samples]


class _Once:
    """One store for all examples."""

    def __init__(self) -> None:
        self._found: tuple[Store, SampleTable] | None = None

    def get(self, folders: pytest.TempPathFactory) -> tuple[Store, SampleTable]:
        if self._found is None:
            store = write(folders.mktemp("store"), num_samples=19)
            self._found = store, store.read_samples()
        return self._found


TABLE_OF = _Once()


def test_of_a_store_elsewhere_only_the_parts_that_are_looked_at_are_fetched_and_once_for_all_processes(
    tmp_path: Path,
) -> None:
    write(tmp_path / "store")
    cache = CacheOptions(dir=tmp_path / "cache")
    store, backend = open_counted(tmp_path / "store", cache=cache)

    first = store.read_samples_at([5, 6])
    fetched = backend.reads_below("samples")
    again, other_backend = open_counted(tmp_path / "store", cache=cache)

    assert list(first.keys) == ["005.png", "006.png"]
    assert fetched == {PARTS[1]: 1}
    assert list(again.read_samples_at([4]).keys) == ["004.png"]
    assert not other_backend.reads_below("samples")


def test_a_part_in_the_row_cache_that_is_not_the_recorded_one_is_fetched_again(tmp_path: Path) -> None:
    write(tmp_path / "store")
    cache = CacheOptions(dir=tmp_path / "cache")
    open_counted(tmp_path / "store", cache=cache)[0].read_samples_at([5])
    (kept,) = (tmp_path / "cache").rglob("samples-*.rows")
    flip_byte(kept, position=30)

    store, backend = open_counted(tmp_path / "store", cache=cache)

    assert list(store.read_samples_at([5]).keys) == ["005.png"]
    assert backend.reads_below("samples") == {PARTS[1]: 1}


@pytest.mark.parametrize("path", PARTS)
def test_a_damaged_part_is_found_wherever_it_is_looked_at(tmp_path: Path, path: str) -> None:
    write(tmp_path / "store")
    flip_byte(tmp_path / "store" / path, position=30)
    store, part = open_uncached(tmp_path / "store"), PARTS.index(path)

    with pytest.raises(DamagedStore, match=path):
        store.read_samples()
    with pytest.raises(DamagedStore, match=path):
        list(store.read_keys())
    with pytest.raises(DamagedStore, match=path):
        store.content_hashes_of([4 * part])
    assert len(store.read_samples_at([4 * ((part + 1) % 3)])) == 1, "the others are whole"
    assert verify_store(tmp_path / "store").damaged == [path]


def test_samples_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="11"):
        write(tmp_path / "store").read_samples_at([11])


def test_data_are_aligned_with_a_store_of_several_parts(tmp_path: Path) -> None:
    dump(tmp_path / "store")

    assert align(Pictures(), open_uncached(tmp_path / "store")).tolist() == list(range(50))


# What is shared.


@BOTH_FORMATS
def test_a_published_store_is_pulled_whole_and_in_part(tmp_path: Path, format: FormatName) -> None:
    whole = write(tmp_path / "store", format=format)
    address = publish(tmp_path / "store", tmp_path / "published")
    many = write_keys(tmp_path / "many.txt", [f"{number:03d}.png" for number in range(2, 11)])
    few = write_keys(tmp_path / "few.txt", ["001.png", "010.png"])

    pull(address, tmp_path / "all")
    pull(address, tmp_path / "view", PullOptions(views="1"))
    pull(address, tmp_path / "many", PullOptions(samples=many))
    pull(address, tmp_path / "few", PullOptions(samples=few, views="0", features=()))

    assert (
        contents(tmp_path / "all").items()
        >= {path: data for path, data in contents(tmp_path / "store").items() if path != CARD_NAME}.items()
    )
    versions = [open_uncached(tmp_path / name).manifest.format_version for name in ("all", "view", "many", "few")]
    assert versions == [3, 3, 3, 2]
    assert_same_rows(
        open_uncached(tmp_path / "many"), whole, views=range(2), features=whole.feature_names, samples=range(2, 11)
    )
    assert_same_rows(open_uncached(tmp_path / "few"), whole, views=[0], features=(), samples=[1, 10])
    for name in ("all", "view", "many", "few"):
        assert verify_store(tmp_path / name).is_intact
        assert_reads_the_same(tmp_path / name)


def test_a_published_store_is_verified_where_it_lies(tmp_path: Path) -> None:
    write(tmp_path / "store")
    address = publish(tmp_path / "store", tmp_path / "published")
    (part,) = (tmp_path / "published").rglob("part-00002.parquet")
    flip_byte(part, position=30)

    assert verify_store(address).damaged == [PARTS[2]]
