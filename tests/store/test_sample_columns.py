from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import DamagedStore, InvalidOption
from softlab.identity import ContentHashes
from softlab.indices import RecipeIndex, StoreIndex
from softlab.keys import Keys
from softlab.shards import Shard
from softlab.store import reader, sample_columns, samples
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.store.sample_columns import SampleColumns, stretches
from softlab.store.samples import SampleTable, encode_samples
from tests.store.building import make_plan, write_store

GROUP_ROWS = 8


@pytest.fixture(scope="module", autouse=True)
def few_samples_are_very_many() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "GROUP_ROWS", GROUP_ROWS)
        patch.setattr(sample_columns, "GROUP_ROWS", GROUP_ROWS)
        patch.setattr(samples, "BLOCK_ROWS", 5)
        patch.setattr(sample_columns, "BLOCK_ROWS", 9)
        patch.setattr(reader, "LARGE_TABLE", 4)
        yield


@st.composite
def tables(draw: st.DrawFn) -> SampleTable:
    count = draw(st.integers(1, 40))
    random = np.random.default_rng(count)
    return SampleTable(
        keys=draw(st.lists(st.text(max_size=9), min_size=count, max_size=count)),
        targets_N=draw(st.none() | st.just(random.integers(-1, 5, size=count))),
        content_hashes=ContentHashes.from_bytes(random.integers(256, size=(count, 16), dtype=np.uint8)),
        recipe_N=draw(st.none() | st.just(RecipeIndex(np.sort(random.choice(100, count, replace=False))))),
        rows_N=draw(st.none() | st.just(random.integers(9, size=count))),
    )


def join(parts: Sequence[SampleTable]) -> SampleTable:
    """Some stretches as one table."""
    of_recipe = [part.recipe_N for part in parts if part.recipe_N is not None]
    rows = [part.rows_N for part in parts if part.rows_N is not None]
    return SampleTable(
        keys=[key for part in parts for key in part.keys],
        targets_N=np.concatenate([part.targets_N for part in parts if part.targets_N is not None]),
        content_hashes=[each for part in parts for each in part.content_hashes],
        recipe_N=RecipeIndex(np.concatenate(of_recipe)) if of_recipe else None,
        rows_N=np.concatenate(rows) if rows else None,
    )


@given(table=tables(), data=st.data())
def test_a_table_by_stretches_is_the_table_as_a_whole(table: SampleTable, data: st.DataObject) -> None:
    encoded, count = encode_samples(table), len(table)
    columns, hashes_N16 = SampleColumns(encoded, num_samples=count), ContentHashes(table.content_hashes).bytes_N16
    chosen = StoreIndex(np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=9)), dtype=np.int64))

    assert Keys.join(columns.keys()) == list(table.keys)
    assert np.array_equal(np.concatenate(list(columns.hashes())), hashes_N16)
    again = list(columns.tables())
    assert [len(each) for each in again] == [stretch.num_rows for stretch in stretches(count)]
    assert [key for each in again for key in each.keys] == list(table.keys)
    assert np.concatenate([each.targets_N for each in again if each.targets_N is not None]).tolist() == (
        [-1] * count if table.targets_N is None else table.targets_N.tolist()
    )
    assert [each for part in again for each in part.content_hashes] == list(table.content_hashes)
    assert [part.recipe_N is None for part in again] == [table.recipe_N is None] * len(again)
    assert encode_samples(join(again)) == encoded
    recipe_N = columns.recipe_N()
    assert (None if recipe_N is None else recipe_N.tolist()) == (
        None if table.recipe_N is None else table.recipe_N.tolist()
    )
    found = columns.take(chosen)
    assert list(found.keys) == [table.keys[index] for index in chosen.tolist()]
    assert list(found.content_hashes) == [table.content_hashes[index] for index in chosen.tolist()]
    known = np.full(count, -1) if table.targets_N is None else table.targets_N
    told = np.full(len(chosen), -1) if found.targets_N is None else found.targets_N
    assert told.tolist() == known[chosen].tolist()


@given(table=tables(), data=st.data())
def test_content_hashes_of_any_stretch_are_those_of_its_samples(table: SampleTable, data: st.DataObject) -> None:
    """Also where a table was written in other row groups."""
    count = len(table)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    rows = np.empty((stop - start, 16), dtype=np.uint8)

    columns = SampleColumns(encode_samples(table), num_samples=count)
    columns.hashes_into(Shard(view=0, part=0, start=start, stop=stop), rows)
    assert np.array_equal(rows, ContentHashes(table.content_hashes).bytes_N16[start:stop])
    assert [(each.start, each.stop) for each in stretches(20)] == [(0, 8), (8, 16), (16, 20)]


def test_a_file_that_is_mapped_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    table = SampleTable(
        keys=[str(n) for n in range(30)], targets_N=None, content_hashes=[bytes([n] * 16) for n in range(30)]
    )
    (tmp_path / "samples").write_bytes(encode_samples(table))

    with (tmp_path / "samples").open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        assert Keys.join(SampleColumns(mapped, num_samples=30).keys()) == list(table.keys)
        with pytest.raises(ValueError, match="lists 30 samples, the manifest says 31"):
            SampleColumns(mapped, num_samples=31)


# Of a store.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_store(tmp_path / "store.zarr", make_plan(num_samples=30))
    return tmp_path / "store.zarr"


@pytest.fixture(params=[64 << 20, 0], ids=["row cache", "no row cache"])
def store(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    return open_store(path, cache=CacheOptions(dir=tmp_path / "cache", max_bytes=request.param))


def test_a_store_tells_of_its_samples_what_its_whole_table_tells(store: Store) -> None:
    table, chosen = store.read_samples(), [29, 3, 3, 0, 15]

    assert store.has_large_table
    assert Keys.join(store.read_keys()) == list(table.keys)
    assert np.concatenate(list(store.read_content_hashes())).tobytes() == b"".join(table.content_hashes)
    assert store.read_recipe_indices() is None
    for _ in range(2):
        found = store.content_hashes_of(chosen)
        assert [row.tobytes() for row in found] == [table.content_hashes[index] for index in chosen]
    assert list(store.read_samples_at(chosen).keys) == [table.keys[index] for index in chosen]


def test_samples_that_are_not_there_are_refused(store: Store) -> None:
    with pytest.raises(InvalidOption, match="30"):
        store.content_hashes_of([30])


def test_content_hashes_come_from_the_row_cache_without_a_look_at_the_table(path: Path, tmp_path: Path) -> None:
    cache = CacheOptions(dir=tmp_path / "cache")
    found = open_store(path, cache=cache).content_hashes_of(range(30))
    (path / "samples.parquet").unlink()

    assert np.array_equal(open_store(path, cache=cache).content_hashes_of(range(30)), found)


def test_changed_rows_of_the_row_cache_are_made_anew(path: Path, tmp_path: Path) -> None:
    cache = CacheOptions(dir=tmp_path / "cache")
    found = open_store(path, cache=cache).content_hashes_of(range(30))
    (rows,) = (tmp_path / "cache").rglob("content-hashes-*.rows")
    rows.write_bytes(b"x" * (30 * 16))

    assert np.array_equal(open_store(path, cache=cache).content_hashes_of(range(30)), found)


@pytest.mark.parametrize(
    "look", [lambda store: store.content_hashes_of([3]), lambda store: list(store.read_keys())], ids=["hashes", "keys"]
)
def test_a_table_whose_bytes_are_not_the_recorded_ones_is_never_used(path: Path, tmp_path: Path, look: object) -> None:
    data = bytearray((path / "samples.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "samples.parquet").write_bytes(data)

    with pytest.raises(DamagedStore, match=r"samples\.parquet: its bytes are not the recorded ones"):
        look(open_store(path, cache=CacheOptions(dir=tmp_path / "cache")))  # type: ignore[operator]
    (path / "samples.parquet").write_bytes(data[:-1])
    with pytest.raises(DamagedStore, match="recorded are"):
        look(open_store(path, cache=CacheOptions(dir=tmp_path / "cache")))  # type: ignore[operator]
    (path / "samples.parquet").unlink()
    with pytest.raises(DamagedStore, match="is missing"):
        look(open_store(path, cache=CacheOptions(dir=tmp_path / "cache")))  # type: ignore[operator]
