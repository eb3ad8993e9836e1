import json
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow.dataset
import pyarrow.parquet
import pytest

from softlab.labels.coding import Coding
from softlab.store.cache import CacheOptions
from softlab.store.parquet_format import ParquetFormat
from softlab.store.reader import open_store
from tests.store.building import flip_byte, make_arrays, make_plan, write_store
from tests.store.format_contract import AXES, FormatContract, random_bits

NO_CACHE = CacheOptions(max_bytes=0)
LABELS = ("class_ids", "logits", "max_logit", "log_tail")


class TestParquetFormat(FormatContract):
    name = "parquet"


def seen_by_pyarrow(folder: Path) -> dict[str, list[object]]:
    dataset = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive")
    columns: dict[str, list[object]] = dataset.to_table().sort_by([("view", "ascending"), ("sample", "ascending")]).to_pydict()
    return columns


def seen_by_duckdb(folder: Path) -> dict[str, list[object]]:
    rows = duckdb.sql(
        f"SELECT * FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = true) ORDER BY view, sample"
    )
    return dict(zip(rows.columns, map(list, zip(*rows.fetchall(), strict=True)), strict=True))


def seen_by_polars(folder: Path) -> dict[str, list[object]]:
    frame = polars.read_parquet(f"{folder}/*/*.parquet", hive_partitioning=True)
    return frame.sort("view", "sample").to_dict(as_series=False)


OTHER_READERS = pytest.mark.parametrize("seen_by", [seen_by_pyarrow, seen_by_duckdb, seen_by_polars])


def test_the_fields_of_a_group_share_one_file_in_hive_layout() -> None:
    plan = make_plan(format="parquet", features={"pooled": (6,), "map": (3, 2)})
    shard = plan.grid.shard(1, 2)

    assert sorted(ParquetFormat().encode(plan, shard, random_bits(plan, shard))) == [
        "features/map/view=00001/part-00002.parquet",
        "features/pooled/view=00001/part-00002.parquet",
        "labels/view=00001/part-00002.parquet",
    ]
