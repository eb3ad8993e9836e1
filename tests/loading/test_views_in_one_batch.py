"""Several views of a sample in one batch: its labels are right, and it is read and decoded once."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches, ViewOrder
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.modality import Modality, decode_sample
from softlab.modalities.views import Example, record_views
from softlab.sources.source import Sample
from softlab.store.reader import Store
from softlab.student.collectives import parts_of
from tests.loading.seen import (
    Part,
    dump_what_is_seen,
    expected_image,
    nameless,
    pixels_in_images,
    pixels_in_labels,
)
from tests.modalities.images.batches import images_in
from tests.teacher.augmenting import AUGMENT

CPU = torch.device("cpu")
COUNT, NUM_VIEWS, SHARE = 21, 4, 2
WHOLE = nameless(COUNT)
PART = (17, 3, 20, 0, 9, 8, 14, 11)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return dump_what_is_seen(tmp_path_factory.mktemp("seen") / "store", WHOLE, num_views=NUM_VIEWS)


def epochs_of(
    num_samples: int, view_order: ViewOrder = "cycle", *, num_views: int | None = NUM_VIEWS
) -> ShuffledBatches:
    return ShuffledBatches(
        num_samples=num_samples,
        batch_size=8,
        epochs=4,
        seed=1,
        num_views=num_views,
        view_order=view_order,
        views_per_image=SHARE,
    )


def load(aligned: Aligned, order: ShuffledBatches, *, workers: int = 0, keep: bool = True) -> list[Batch]:
    loader = BatchLoader(aligned, device=CPU, options=LoaderOptions(workers=workers), keep_decoded=keep)
    return list(loader.load(order))


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The contents of the samples that were decoded since, whatever process has done it."""
    path = tmp_path / "decoded"

    def counting(sample: Sample, modality: Modality) -> Example:
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{sample.content_hash.hex()}\n".encode())  # whole lines, also of several processes
        os.close(log)
        return decode_sample(sample, modality)

    monkeypatch.setattr("softlab.loading.kept_images.decode_sample", counting)
    return lambda: path.read_text().split()


@pytest.mark.parametrize("view_order", ["cycle", "random"])
@pytest.mark.parametrize("numbers", [tuple(range(COUNT)), PART], ids=["whole", "part"])
def test_each_row_has_the_label_of_its_own_view(store: Store, numbers: tuple[int, ...], view_order: ViewOrder) -> None:
    source = Part(whole=WHOLE, numbers=numbers)
    aligned = beside_store(source, store, (ImageInput(),), subset=True, verify="all")

    for batch in load(aligned, epochs_of(len(source), view_order)):
        assert pixels_in_labels(batch).equal(pixels_in_images(batch))
        assert batch.targets_B is not None
        assert batch.targets_B.tolist() == [numbers[number] for number in batch.source_B.tolist()]
        rows = zip(batch.source_B.tolist(), batch.views_B.tolist(), images_in(batch), strict=True)
        for number, view, image_CHW in rows:
            assert image_CHW.equal(expected_image(WHOLE, numbers[number], view))


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_change_nothing(store: Store) -> None:
    aligned = beside_store(WHOLE, store, (ImageInput(),), subset=False, verify="some")

    alone, helped = (load(aligned, epochs_of(COUNT, "random"), workers=workers) for workers in (0, 2))

    for one, other in zip(alone, helped, strict=True):
        assert one.source_B.equal(other.source_B)
        assert images_in(one).equal(images_in(other))
        assert pixels_in_labels(one).equal(pixels_in_labels(other))


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_is_decoded_once_a_batch_for_all_of_its_views(
    store: Store, decoded: Callable[[], list[str]], workers: int
) -> None:
    aligned = beside_store(WHOLE, store, (ImageInput(),), subset=False, verify="some")

    batches = load(aligned, epochs_of(COUNT), workers=workers, keep=False)

    asked = [hashed.hex() for batch in batches for hashed in set(batch.content_hashes)]
    found = Counter(decoded())
    if workers:  # which asks how large a batch is
        found[batches[0].content_hashes[0].hex()] -= 1
    assert found == Counter(asked)
    assert len(asked) * SHARE == sum(len(batch.source_B) for batch in batches)


def test_without_a_store_fresh_views_share_a_batch_too(decoded: Callable[[], list[str]]) -> None:
    replay = ImageReplay(record_views(AUGMENT, num_views=1, digest_every=0), num_samples=COUNT)
    order = epochs_of(COUNT, num_views=None)

    batches = load(Aligned(source=WHOLE, inputs=(ImageInput(),), replay=replay), order, keep=False)

    assert {view for batch in batches for view in batch.views_B.tolist()} == {0, 1, 2, 3}
    assert len(decoded()) * SHARE == sum(len(batch.source_B) for batch in batches)
    for batch in batches:
        rows = zip(batch.source_B.tolist(), batch.views_B.tolist(), images_in(batch), strict=True)
        assert all(image_CHW.equal(expected_image(WHOLE, number, view)) for number, view, image_CHW in rows)


def test_each_part_of_a_batch_decodes_its_own_samples_alone(store: Store, decoded: Callable[[], list[str]]) -> None:
    aligned = beside_store(WHOLE, store, (ImageInput(),), subset=False, verify="some")
    loader = BatchLoader(aligned, device=CPU, options=LoaderOptions(workers=0))
    whole = list(epochs_of(COUNT))

    parts = list(loader.load(part for rows in whole for part in parts_of(rows, parts=4)))

    assert len(decoded()) * SHARE == sum(map(len, whole))
    assert [number for part in parts for number in part.source_B.tolist()] == np.concatenate(
        [rows.source_B for rows in whole]
    ).tolist()
