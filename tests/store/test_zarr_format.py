import threading
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zarr

from softlab.labels.coding import Coding
from softlab.labels.values_coding import ValuesCoding
from softlab.manifest import StorePlan
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.store.zarr_format import ZarrFormat
from softlab.testing.formats import AXES, FormatContract, random_bits
from tests.forks import run_in_fork
from tests.store.building import make_arrays, make_plan, write_store

NO_CACHE = CacheOptions(max_bytes=0)


def opened_by_zarr(path: Path) -> Any:
    """The store's root group; Any, because what a path leads to is known only when it is followed."""
    return zarr.open_group(path, mode="r")


class TestZarrFormat(FormatContract):
    name = "zarr"

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


def test_every_field_of_a_shard_is_a_file_of_its_own() -> None:
    plan = make_plan(features={"pooled": (6,), "map": (3, 2)})
    shard = plan.grid.shard(1, 2)

    assert sorted(ZarrFormat().encode(plan, shard, random_bits(plan, shard))) == [
        "outputs/logits/class_ids/c/1/2/0",
        "outputs/logits/log_tail/c/1/2/0",
        "outputs/logits/logits/c/1/2/0",
        "outputs/logits/max_logit/c/1/2",
        "outputs/map/values/c/1/2/0/0",
        "outputs/pooled/values/c/1/2/0",
    ]


def test_zarr_alone_shows_every_array_as_it_was_given(tmp_path: Path) -> None:
    plan = make_plan(features=AXES)
    write_store(tmp_path / "store", plan)

    group = opened_by_zarr(tmp_path / "store")

    assert sorted(group["outputs"].group_keys()) == sorted(["logits", *AXES])
    for name, array in make_arrays(plan).items():
        np.testing.assert_array_equal(group[name][:], array, strict=True)


@pytest.mark.parametrize("coding", ["float32", "float16"])
def test_zarr_alone_shows_the_logits_that_softlab_reads(tmp_path: Path, coding: Coding) -> None:
    write_store(tmp_path / "store", make_plan(coding=coding))
    store = open_store(tmp_path / "store", cache=NO_CACHE)

    labels = opened_by_zarr(tmp_path / "store")["outputs/logits"]

    for view in range(store.num_views):
        read = store.read(range(store.num_samples), view=view)
        np.testing.assert_array_equal(labels["logits"][view].astype("f4"), read.logits_BK)
        np.testing.assert_array_equal(labels["log_tail"][view].astype("f4"), read.log_tail_BT)
        np.testing.assert_array_equal(labels["max_logit"][view].astype("f4"), read.max_logit_B)
        np.testing.assert_array_equal(labels["class_ids"][view].astype("i8"), read.class_ids_BK)
    assert labels.attrs.asdict() == {
        "temperatures": [1.0, 4.0],
        "num_classes": 20,
        "head": "softmax",
        "coding": coding,
        "gap_step": None,
    }


def test_zarr_alone_shows_gaps_from_which_the_attributes_give_the_logits(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan(coding="uint8"))
    store = open_store(tmp_path / "store", cache=NO_CACHE)

    labels = opened_by_zarr(tmp_path / "store")["outputs/logits"]

    logits = -labels.attrs["gap_step"] * np.cumsum(labels["logits"][1].astype("i8"), axis=1)
    np.testing.assert_array_equal(logits, store.read(range(store.num_samples), view=1).logits_BK)


def test_zarr_alone_notices_any_damaged_byte_of_a_shard(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    path = tmp_path / "store/outputs/logits/logits/c/0/2/0"
    good = path.read_bytes()
    silent = []

    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        try:
            opened_by_zarr(tmp_path / "store")["outputs/logits/logits"][:]
            silent.append(position)
        except Exception:
            continue

    assert silent == []


@pytest.mark.process
def test_a_process_that_may_start_no_thread_says_so_again_and_again() -> None:
    """zarr would wait for ever at the second time."""
    assert run_in_fork(encode_without_threads) == 0


def encode_without_threads() -> None:
    """Exit code 0 where both times the reason is told, and it goes on once threads can be started."""
    plan = make_plan()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                ZarrFormat().layout_files(plan)
    assert "outputs/logits/logits/zarr.json" in ZarrFormat().layout_files(plan)
