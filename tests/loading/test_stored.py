from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softlab.errors import DamagedStore
from softlab.indices import SourceIndex
from softlab.loading import stored
from softlab.loading.aligned import Aligned
from softlab.loading.order import RowIndices, ShuffledBatches
from softlab.loading.stored import Stored, read_stored
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.device import DeviceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.store.rows import Rows
from softlab.teacher.options import DumpOptions
from tests.store.building import flip_byte
from tests.teacher.dumping import Pictures, assert_same_labels, dump

CPU = torch.device("cpu")
COUNT = 50


class Watched(Store):
    """Counts its reads."""

    reads: list[int]

    def read_packed(self, samples: Any, *, view: Any = 0, feature: str | None = None) -> Rows:
        self.reads.append(len(samples))
        return super().read_packed(samples, view=view, feature=feature)


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    """Two views and a feature."""
    options = DumpOptions(
        k=4, shard_rows=16, batch_size=8, device=DeviceOptions(name="cpu"), views=2, feature={"pooled": "relu:mean"}
    )
    dump(tmp_path / "store", options, augment=ViewRecipe(transforms=("RandomHorizontalFlip()",)))
    plain = open_store(tmp_path / "store")
    opened = Watched(plain.path, plain.manifest, plain.digest, cache=CacheOptions(max_bytes=0))
    opened.reads = []
    return opened


def aligned_with(store: Store, **values: Any) -> Aligned:
    return Aligned(source=Pictures(), inputs=(ImageInput(),), store=store, **values)


def batches(*, batch_size: int = 3, view_order: Any = "random") -> ShuffledBatches:
    return ShuffledBatches(
        num_samples=COUNT, batch_size=batch_size, epochs=3, seed=0, num_views=2, view_order=view_order
    )


def read(aligned: Aligned, order: Any) -> Iterator[Stored]:
    return read_stored(aligned, order, CPU)


@pytest.mark.parametrize("view_order", ["cycle", "random"])
@pytest.mark.parametrize("block_bytes", [1, 500, 1 << 20])
def test_each_batch_gets_what_the_store_says_about_its_rows(
    store: Watched, view_order: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "BLOCK_BYTES", block_bytes)
    order = list(batches(view_order=view_order))

    found = list(read(aligned_with(store, others=(store,), features={"pooled": store}), order))

    assert len(found) == len(order)
    for said, rows in zip(found, order, strict=True):
        expected = store.read(rows.source_B, view=rows.views_B)
        assert len(said.labels) == 2
        for labels in said.labels:
            assert_same_labels(labels, expected)
        features = store.read_features("pooled", rows.source_B, view=rows.views_B)
        assert said.features["pooled"].equal(features)


def test_several_batches_are_one_read(store: Watched) -> None:
    order = list(batches(view_order="cycle"))

    list(read(aligned_with(store), order))

    assert len(order) == 48
    assert store.reads == [3 * stored.BLOCK_BATCHES, 3 * (48 - stored.BLOCK_BATCHES)]


def test_no_more_is_read_at_a_time_than_may_be(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "BLOCK_BYTES", 5 * 3 * store.row_bytes())

    list(read(aligned_with(store), batches()))

    assert set(store.reads) == {4 * 3}, "a power of two, so that it divides what a resumed run begins at"


@pytest.mark.parametrize("first_step", [0, 1, 31, 32, 33, 47])
def test_an_order_resumed_at_any_step_makes_the_same_blocks(store: Watched, first_step: int) -> None:
    aligned, skip = aligned_with(store, features={"pooled": store}), first_step % stored.BLOCK_BATCHES
    whole = list(read(aligned, batches()))

    order = replace(batches(), first_step=first_step - skip)
    resumed = list(read_stored(aligned, order, CPU, skip=skip))

    assert len(resumed) == len(whole) - first_step
    for one, other in zip(resumed, whole[first_step:], strict=True):
        assert_same_labels(one.labels[0], other.labels[0])
        assert one.features["pooled"].equal(other.features["pooled"])
        ours, theirs = one.labels[0].block, other.labels[0].block
        assert ours is not None
        assert theirs is not None
        assert (ours.number, ours.sizes) == (theirs.number, theirs.sizes)
        assert ours.whole.class_ids_BK.equal(theirs.whole.class_ids_BK)


def test_labels_stay_parts_of_their_block_on_their_own_device(store: Watched) -> None:
    (said, _) = read(aligned_with(store), list(batches())[:2])

    assert said.labels[0].to(CPU, non_blocking=True).block is not None


def test_a_source_that_counts_otherwise_than_the_store_gets_the_rows_of_its_own_samples(store: Watched) -> None:
    store_N = np.arange(COUNT)[::-1]
    rows = RowIndices(SourceIndex(np.array([0, 7])), np.array([1, 1]))

    (said,) = read(aligned_with(store, store_N=store_N), [rows])

    assert_same_labels(said.labels[0], store.read([49, 42], view=1))


def test_views_without_end_meet_the_stores_in_turn(store: Watched) -> None:
    (said,) = read(aligned_with(store), [RowIndices(SourceIndex(np.array([3, 4])), np.array([5, 8]))])

    assert_same_labels(said.labels[0], store.read([3, 4], view=[1, 0]))


def test_damage_is_the_readers_own_error(tmp_path: Path, store: Watched) -> None:
    flip_byte(tmp_path / "store/outputs/logits/logits/c/0/0/0", position=5)

    with pytest.raises(DamagedStore, match="its bytes are not the recorded ones"):
        list(read(aligned_with(store), [RowIndices(SourceIndex(np.arange(10)), np.zeros(10, dtype=np.int64))]))
