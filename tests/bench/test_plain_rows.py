from pathlib import Path

import numpy as np
import pytest

from softlab.bench.plain_rows import map_plain_rows, scratch_folder
from softlab.errors import StoreWriteFailed
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from tests.store.building import make_arrays, make_plan, write_store

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
    stored = make_arrays(PLAN)[f"features/{name}"][0]

    rows = map_plain_rows(tmp_path / "rows", store, feature=name, row_bytes=12, num_rows=50)

    assert rows.tobytes() == stored[:50].tobytes()
    assert rows.shape == (50, 12)


def test_a_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "cache") as folder:
        (folder / "file").touch()

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()

    with (
        pytest.raises(StoreWriteFailed, match=r"can't be written: .*choose another --cache-dir"),
        scratch_folder(tmp_path / "cache"),
    ):
        pass
