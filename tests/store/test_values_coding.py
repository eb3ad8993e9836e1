"""Stores whose outputs of values are in other codings than float16, as softlab and other readers see them."""

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from softlab.card.render import render_card
from softlab.errors import DamagedStore, NotAStore
from softlab.labels.values_coding import ValuesCoding
from softlab.manifest import StorePlan
from softlab.store.cache import CacheOptions
from softlab.store.convert import convert_store
from softlab.store.format import Array, FormatName
from softlab.store.reader import Store, open_store
from softlab.store.verify import verify_store
from tests.manifests import change_manifest, set_at
from tests.store.building import FORMATS, VALUES_CODINGS, make_arrays, make_plan, plain_values, write_store
from tests.store.format_reader import unrotated

FEATURES: dict[str, tuple[int, ...]] = {"pooled": (6,), "map": (3, 2), "norm": ()}
NO_CACHE = CacheOptions(max_bytes=0)
BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
EVERY_CODING = pytest.mark.parametrize("coding", VALUES_CODINGS)


def make_store(root: Path, *, format: FormatName, coding: ValuesCoding, **values: Any) -> Store:
    write_store(root, make_plan(format=format, values_coding=coding, **({"features": FEATURES} | values)))
    return open_store(root, cache=NO_CACHE)


def expected_values(plan: StorePlan, name: str, *, view: int) -> Array:
    arrays = make_arrays(plan)
    fields = plan.storage.fields_of(f"outputs/{name}")
    return plain_values({field.short_name: arrays[field.name][view] for field in fields})


# Formats.


@EVERY_CODING
@BOTH_FORMATS
def test_values_are_converted_in_their_coding(tmp_path: Path, format: FormatName, coding: ValuesCoding) -> None:
    store = make_store(tmp_path / "old", format=format, coding=coding)
    (other,) = set(FORMATS) - {format}

    convert_store(store, tmp_path / "new", format=other)

    new = open_store(tmp_path / "new", cache=NO_CACHE)
    assert verify_store(tmp_path / "new").is_intact
    assert [each.coding for each in new.manifest.values] == [coding] * len(FEATURES)
    for name in FEATURES:
        for view in range(2):
            found = new.read_features(name, range(11), view=view).numpy()
            np.testing.assert_array_equal(found, expected_values(store.manifest, name, view=view), strict=True)


@pytest.mark.parametrize("width", [1, 400, 3000])
def test_parquet_files_of_any_width_are_read_back(tmp_path: Path, width: int) -> None:
    """What their pages claim to decode to is compared with what rows take."""
    store = make_store(tmp_path, format="parquet", coding="int8", features={"pooled": (width,)})

    found = store.read_features("pooled", range(11), view=1).numpy()

    np.testing.assert_array_equal(found, expected_values(store.manifest, "pooled", view=1), strict=True)


def test_int8_takes_one_byte_a_value_of_a_parquet_file(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan(format="parquet", values_coding="int8", features={"pooled": (3000,)}))
    columns = pq.read_metadata(tmp_path / "outputs/pooled/view=00000/part-00000.parquet").row_group(0)

    values = next(
        column
        for column in map(columns.column, range(columns.num_columns))
        if column.path_in_schema.startswith("values")
    )

    assert "RLE_DICTIONARY" in values.encodings
    assert values.total_uncompressed_size < 2 * 3000 * 1.5 + 2000, "two rows, and a dictionary of 255 numbers"


# Other readers.


@EVERY_CODING
def test_zarr_alone_shows_numbers_that_become_values(tmp_path: Path, coding: ValuesCoding) -> None:
    store = make_store(tmp_path, format="zarr", coding=coding)

    group: Any = zarr.open_group(tmp_path, mode="r")["outputs/map"]

    assert group.attrs.asdict() == ({} if coding == "float16" else {"coding": coding})
    values = group["values"][1].astype(np.float32)
    if group.attrs.get("coding") == "int8":
        values *= group["scale"][1][:, None, None]
    if group.attrs.get("coding") == "int8_rotated":
        values = unrotated(values, {name: group[name][1] for name in ("scale", "outliers", "outlier_ids")})
    np.testing.assert_array_equal(values, store.read_features("map", range(11), view=1).numpy())


@pytest.mark.parametrize("coding", ["float32", "float16", "int8"])
def test_duckdb_shows_numbers_that_become_values(tmp_path: Path, coding: ValuesCoding) -> None:
    store = make_store(tmp_path, format="parquet", coding=coding)
    folder = tmp_path / "outputs/map/view=00001"
    description = json.loads(pq.read_schema(folder / "part-00000.parquet").metadata[b"softlab"])
    formula = "[step * scale FOR step IN values]" if description.get("coding") == "int8" else "values"

    seen = duckdb.sql(f"SELECT {formula} FROM read_parquet('{folder}/*.parquet') ORDER BY sample")
    assert seen is not None
    rows = seen.fetchall()

    assert description == ({} if coding == "float16" else {"coding": coding}) | {
        "row_shapes": {"values": [3, 2]} | ({"scale": []} if coding == "int8" else {})
    }
    found = np.array([row for (row,) in rows], dtype=np.float32).reshape(11, *description["row_shapes"]["values"])
    np.testing.assert_array_equal(found, store.read_features("map", range(11), view=1).numpy())


# The manifest.


def test_a_manifest_names_no_coding_where_values_are_float16(tmp_path: Path) -> None:
    """So stores that were written before there was a choice are the same to the byte."""
    make_store(tmp_path, format="zarr", coding="float16")

    outputs = json.loads((tmp_path / "manifest.json").read_bytes())["outputs"]

    assert [output.keys() for output in outputs[1:]] == [{"kind", "name", "taken_from", "units"}] * len(FEATURES)
    assert open_store(tmp_path).manifest.values[0].coding == "float16"


@pytest.mark.parametrize(
    ("coding", "changes", "problem"),
    [
        ("int8", {"outputs.1.coding": "float32"}, "the output pooled has arrays of row shapes"),
        ("float16", {"outputs.1.coding": "int8"}, "the output pooled has arrays of row shapes"),
        ("float16", {"outputs.1.coding": "float32"}, "float16 arrays for float32 values"),
        ("float16", {"storage.fields.4.dtype": "int8"}, "int8 arrays for float16 values"),
        ("int8", {"storage.fields.5.dtype": "float16"}, "float16 arrays for float32 scale"),
        ("int8", {"storage.fields.5.row_shape": [6]}, "the output pooled has arrays of row shapes"),
        ("int8", {"outputs.1.coding": "int4"}, "Invalid enum value 'int4'"),
        ("int8", {"outputs.1.coding": "int8_rotated"}, "the output pooled has arrays of row shapes"),
        ("int8_rotated", {"outputs.1.coding": "int8"}, "the output pooled has arrays of row shapes"),
        ("int8_rotated", {"storage.fields.6.row_shape": [2]}, "the output pooled has arrays of row shapes"),
        ("int8_rotated", {"storage.fields.7.dtype": "uint8"}, "uint8 arrays for uint16 outlier_ids"),
    ],
)
def test_a_coding_that_does_not_fit_the_arrays_is_refused(
    tmp_path: Path, coding: ValuesCoding, changes: dict[str, object], problem: str
) -> None:
    make_store(tmp_path, format="zarr", coding=coding, features={"pooled": (6,)})

    for path, value in changes.items():
        change_manifest(tmp_path, lambda tree, path=path, value=value: set_at(tree, path, value))  # type: ignore[misc]

    with pytest.raises(NotAStore, match=re.escape(problem)):
        open_store(tmp_path)


@BOTH_FORMATS
@pytest.mark.parametrize("cache", [True, False])
def test_an_outlier_that_a_vector_has_no_place_for_is_damage(tmp_path: Path, format: FormatName, cache: bool) -> None:
    plan = make_plan(format=format, values_coding="int8_rotated", features={"pooled": (6,)})
    arrays = dict(make_arrays(plan))
    arrays["outputs/pooled/outlier_ids"] = np.full_like(arrays["outputs/pooled/outlier_ids"], 6)
    write_store(tmp_path / "store", plan, arrays=arrays)

    store = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache") if cache else NO_CACHE)

    with pytest.raises(DamagedStore, match="an outlier at place 6 of 6"):
        store.read_features("pooled", [3])


def test_a_card_says_how_numbers_become_values(tmp_path: Path) -> None:
    cards = {
        coding: render_card(make_store(tmp_path / coding, format="zarr", coding=coding).manifest)
        for coding in VALUES_CODINGS
    }

    formula = "A value of pooled, map, norm is its number in `values` times the `scale` of its row."
    assert "| features | pooled (layer layer4), map" in cards["float16"]
    assert "| features | pooled (layer layer4, float32), map" in cards["float32"]
    assert "| features | pooled (layer layer4, int8), map" in cards["int8"]
    assert "| features | pooled (layer layer4, int8_rotated), map" in cards["int8_rotated"]
    assert [formula in cards[coding] for coding in VALUES_CODINGS] == [False, False, True, False]
    assert "Vectors of pooled, map, norm are rotated before they become" in cards["int8_rotated"]
