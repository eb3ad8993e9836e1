"""Rows of stores that lie elsewhere are asked for while those before them are used."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from softlab.errors import DamagedStore
from softlab.indices import SourceIndex, StoreIndex
from softlab.loading.aligned import Aligned
from softlab.loading.order import RowIndices, ShuffledBatches
from softlab.loading.stored import BATCHES_AHEAD, BLOCK_BATCHES, BLOCKS_AHEAD, read_stored
from softlab.modalities.images.inputs import ImageInput
from softlab.models.device import DeviceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.teacher.options import DumpOptions
from tests.store.remote import Counting, open_counted
from tests.teacher.dumping import Pictures, assert_same_labels, dump

CPU = torch.device("cpu")
COUNT, BATCH = 512, 4
BLOCK_ROWS = BLOCK_BATCHES * BATCH


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 shards, of which a block of batches in order needs 8."""
    root = tmp_path_factory.mktemp("dumped") / "store"
    options = DumpOptions(
        k=4, shard_rows=16, batch_size=16, device=DeviceOptions(name="cpu"), feature={"pooled": "relu:mean"}
    )
    dump(root, options, source=Pictures(count=COUNT))
    return root


@pytest.fixture
def opened(root: Path) -> tuple[Store, Counting]:
    return open_counted(root, cache=CacheOptions(max_bytes=0))


def aligned_with(store: Store, *features: str) -> Aligned:
    return Aligned(
        source=Pictures(count=COUNT), inputs=(ImageInput(),), store=store, features=dict.fromkeys(features, store)
    )


def in_order() -> list[RowIndices]:
    starts = range(0, COUNT, BATCH)
    return [
        RowIndices(SourceIndex(np.arange(start, start + BATCH)), np.zeros(BATCH, dtype=np.int64)) for start in starts
    ]


def label_files(store: Store, *, stop: int) -> set[str]:
    """Of the rows before one."""
    shards = store.manifest.grid.shards_of(StoreIndex(np.arange(stop)), view=0)
    return {
        file.path
        for each in shards
        for file in store.shard_record(each).files
        if file.path.startswith("outputs/logits/")
    }


def test_the_next_blocks_are_fetched_while_one_is_used(opened: tuple[Store, Counting]) -> None:
    store, backend = opened
    stored = read_stored(aligned_with(store), iter(in_order()), CPU)

    next(stored)

    ahead = label_files(store, stop=(1 + BLOCKS_AHEAD) * BLOCK_ROWS)
    backend.wait_for(ahead)
    assert backend.reads_below("outputs/logits/").keys() == ahead
    assert len(ahead) < len(label_files(store, stop=COUNT))


def test_features_of_the_next_batches_are_fetched_while_one_is_used(opened: tuple[Store, Counting]) -> None:
    store, backend = opened
    stored = read_stored(aligned_with(store, "pooled"), iter(in_order()), CPU)

    next(stored)

    num_shards = -(-(1 + BATCHES_AHEAD) * BATCH // 16)
    backend.wait_for([f"outputs/pooled/values/c/0/{part}/0" for part in range(num_shards)])
    assert len(backend.reads_below("outputs/pooled/")) == num_shards


@pytest.mark.parametrize("is_cached", [True, False])
def test_batches_are_those_of_a_local_store_and_each_file_is_fetched_once(
    tmp_path: Path, root: Path, is_cached: bool
) -> None:
    cache = CacheOptions(dir=tmp_path) if is_cached else CacheOptions(max_bytes=0)
    store, backend = open_counted(root, cache=cache)
    local = open_store(root, cache=CacheOptions(max_bytes=0))
    order = in_order()
    if is_cached:
        shuffled = ShuffledBatches(num_samples=COUNT, batch_size=BATCH, epochs=2, seed=0)
        order = list(shuffled)

    found = list(read_stored(aligned_with(store, "pooled"), iter(order), CPU))

    for said, expected in zip(found, read_stored(aligned_with(local, "pooled"), iter(order), CPU), strict=True):
        assert_same_labels(said.labels[0], expected.labels[0])
        assert said.features["pooled"].equal(expected.features["pooled"])
    assert set(backend.reads_below("outputs/logits/", "outputs/pooled/").values()) == {1}


def test_an_object_that_goes_away_is_an_error_only_where_its_rows_are_read(root: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(root, tmp_path / "copied")
    store, _ = open_counted(copied, cache=CacheOptions(max_bytes=0))
    part = 2 * BLOCK_ROWS // 16
    (copied / f"outputs/logits/logits/c/0/{part}/0").unlink()

    stored = read_stored(aligned_with(store), iter(in_order()), CPU)

    assert len([next(stored) for _ in range(2 * BLOCK_BATCHES)]) == 2 * BLOCK_BATCHES
    with pytest.raises(DamagedStore, match="is missing"):
        next(stored)
