import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pyarrow.dataset
import pyarrow.parquet
import pytest

from softlab.labels.coding import Coding
from softlab.labels.values_coding import ValuesCoding
from softlab.manifest import StorePlan
from softlab.store.cache import CacheOptions
from softlab.store.parquet_format import ParquetFormat
from softlab.store.reader import open_store
from softlab.testing.formats import AXES, FormatContract, random_bits
from tests.store.building import flip_byte, make_arrays, make_plan, write_store

NO_CACHE = CacheOptions(max_bytes=0)
Columns = dict[str, list[Any]]
LABELS = ("class_ids", "logits", "max_logit", "log_tail")


class TestParquetFormat(FormatContract):
    name = "parquet"

    def plan(
        self,
        *,
        coding: Coding = "float16",
        values_coding: ValuesCoding = "float16",
        num_samples: int = 11,
        num_classes: int = 20,
    ) -> StorePlan:
        return make_plan(
            format=self.name,
            coding=coding,
            values_coding=values_coding,
            num_samples=num_samples,
            num_classes=num_classes,
            features=AXES,
        )


def seen_by_pyarrow(folder: Path) -> Columns:
    dataset = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive")
    table = dataset.to_table().sort_by([("view", "ascending"), ("sample", "ascending")])
    columns: Columns = table.to_pydict()
    return columns


def seen_by_duckdb(folder: Path) -> Columns:
    rows = duckdb.sql(
        f"SELECT * FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = true) ORDER BY view, sample"
    )
    assert rows is not None
    return dict(zip(rows.columns, map(list, zip(*rows.fetchall(), strict=True)), strict=True))


def seen_by_polars(folder: Path) -> Columns:
    frame = polars.read_parquet(f"{folder}/*/*.parquet", hive_partitioning=True)
    return frame.sort("view", "sample").to_dict(as_series=False)


OTHER_READERS = pytest.mark.parametrize("seen_by", [seen_by_pyarrow, seen_by_duckdb, seen_by_polars])


def test_the_fields_of_a_group_share_one_file_in_hive_layout() -> None:
    plan = make_plan(format="parquet", features={"pooled": (6,), "map": (3, 2)})
    shard = plan.grid.shard(1, 2)

    assert sorted(ParquetFormat().encode(plan, shard, random_bits(plan, shard))) == [
        "outputs/logits/view=00001/part-00002.parquet",
        "outputs/map/view=00001/part-00002.parquet",
        "outputs/pooled/view=00001/part-00002.parquet",
    ]


@OTHER_READERS
@pytest.mark.parametrize("coding", ["float32", "float16"])
def test_other_readers_see_the_labels_that_softlab_reads(
    tmp_path: Path, seen_by: Callable[[Path], Columns], coding: Coding
) -> None:
    plan = make_plan(format="parquet", coding=coding)
    write_store(tmp_path / "store", plan)
    store = open_store(tmp_path / "store", cache=NO_CACHE)

    seen = seen_by(tmp_path / "store/outputs/logits")

    assert seen.keys() == {"view", "sample", *LABELS}
    assert list(map(int, seen["view"])) == [0] * store.num_samples + [1] * store.num_samples
    assert seen["sample"] == [*range(store.num_samples)] * 2
    read = [store.read(range(store.num_samples), view=view) for view in range(2)]
    np.testing.assert_array_equal(seen["class_ids"], np.concatenate([labels.class_ids_BK for labels in read]))
    np.testing.assert_array_equal(seen["logits"], np.concatenate([labels.logits_BK for labels in read]))
    np.testing.assert_array_equal(seen["max_logit"], np.concatenate([labels.max_logit_B for labels in read]))
    np.testing.assert_array_equal(seen["log_tail"], np.concatenate([labels.log_tail_BT for labels in read]))


@OTHER_READERS
def test_other_readers_see_gaps_from_which_the_metadata_give_the_logits(
    tmp_path: Path, seen_by: Callable[[Path], Columns]
) -> None:
    write_store(tmp_path / "store", make_plan(format="parquet", coding="uint8", num_views=1))
    store = open_store(tmp_path / "store", cache=NO_CACHE)

    gaps_NK = np.array(seen_by(tmp_path / "store/outputs/logits")["logits"], dtype=np.int64)

    schema = pyarrow.parquet.read_schema(tmp_path / "store/outputs/logits/view=00000/part-00000.parquet")
    description = json.loads(schema.metadata[b"softlab"])
    logits_NK = -description["gap_step"] * np.cumsum(gaps_NK, axis=1)
    np.testing.assert_array_equal(logits_NK, store.read(range(store.num_samples)).logits_BK)


@OTHER_READERS
def test_other_readers_see_minus_infinity_where_there_is_no_tail(
    tmp_path: Path, seen_by: Callable[[Path], Columns]
) -> None:
    write_store(tmp_path / "store", make_plan(format="parquet", num_classes=3, k=3))

    assert np.isneginf(seen_by(tmp_path / "store/outputs/logits")["log_tail"]).all()


@OTHER_READERS
@pytest.mark.parametrize("name", AXES)
def test_other_readers_see_features_as_flat_lists(
    tmp_path: Path, seen_by: Callable[[Path], Columns], name: str
) -> None:
    plan = make_plan(format="parquet", features={name: AXES[name]})
    write_store(tmp_path / "store", plan)

    seen = seen_by(tmp_path / "store/outputs" / name)

    expected = make_arrays(plan)[f"outputs/{name}/values"].astype(np.float32)
    np.testing.assert_array_equal(seen["values"], expected.reshape(22, -1) if AXES[name] else expected.reshape(22))


def test_the_shape_of_a_feature_is_in_the_metadata(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan(format="parquet", features=AXES))

    schema = pyarrow.parquet.read_schema(tmp_path / "store/outputs/map/view=00000/part-00000.parquet")

    assert json.loads(schema.metadata[b"softlab"])["row_shapes"] == {"values": [3, 2]}


def test_a_row_group_is_a_chunk(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan(format="parquet"))

    metadata = pyarrow.parquet.read_metadata(tmp_path / "store/outputs/logits/view=00000/part-00002.parquet")

    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [2, 1]


def test_other_readers_can_check_the_pages_of_a_shard(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan(format="parquet", features={"pooled": (400,)}))
    path = tmp_path / "store/outputs/pooled/view=00000/part-00000.parquet"

    flip_byte(path, position=path.stat().st_size // 2)

    with pytest.raises(OSError, match="CRC"):
        pyarrow.parquet.read_table(path, page_checksum_verification=True)
