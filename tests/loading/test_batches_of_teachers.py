"""What further teachers say, and the features of any, are of the same view of the same sample as all of a batch."""

# Shape letters: B rows in a batch, C channels, H height, W width, P pixels of an image, all channels together.

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.errors import DamagedStore
from softlab.indices import SourceIndex
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices, ShuffledBatches, ViewOrder, in_sequence
from softlab.loading.sample_check import align
from softlab.loading.teachers import check_same_rows
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.views import record_views
from softlab.store.reader import Store
from tests.loading.labelled import dump_rows, open_rows
from tests.loading.seen import NUM_PIXELS, Part, dump_what_is_seen, nameless, pixels_in_images, pixels_in_labels
from tests.modalities.images.batches import images_in
from tests.sources.pictures import image_rows
from tests.teacher.augmenting import dump_views, open_uncached
from tests.teacher.dumping import assert_same_labels

CPU = torch.device("cpu")
COUNT, NUM_VIEWS = 21, 3
WHOLE = nameless(COUNT)
PART = (17, 3, 20, 0, 9, 8, 14, 11)


class Scaled(nn.Module):
    """A teacher whose logits are the pixels that it sees, times a number; they are a feature of it too."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.pixels, self.factor = nn.Flatten(), nn.Parameter(torch.tensor(factor))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        pixels_BP: Tensor = self.pixels(images_BCHW)
        return self.factor * pixels_BP


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """Three teachers that saw the same views, and say them as they are, negated, and halved."""
    folder = tmp_path_factory.mktemp("stores")
    found = [dump_what_is_seen(folder / "first", WHOLE, num_views=NUM_VIEWS)]
    for name, factor, features in [("second", -1.0, {"pixels": "pixels"}), ("third", 0.5, {"rows": "pixels"})]:
        dump_views(
            folder / name,
            NUM_VIEWS,
            teacher=Scaled(factor),
            source=WHOLE,
            k=NUM_PIXELS,
            coding="float32",
            feature=features,
        )
        found.append(open_uncached(folder / name))
    check_same_rows(found)
    return found


def align_teachers(stores: list[Store], numbers: tuple[int, ...] = tuple(range(COUNT))) -> Aligned:
    first, second, third = stores
    aligned = beside_store(Part(whole=WHOLE, numbers=numbers), first, (ImageInput(),), subset=True, verify="all")
    return replace(aligned, others=(second, third), features={"rows": third, "pixels": second})


def load(
    aligned: Aligned, order: ShuffledBatches | list[RowIndices], *, workers: int = 0, device: torch.device = CPU
) -> list[Batch]:
    return list(BatchLoader(aligned, device=device, options=LoaderOptions(workers=workers)).load(order))


def epochs_of(num_samples: int, view_order: ViewOrder, *, num_views: int | None = NUM_VIEWS) -> ShuffledBatches:
    return ShuffledBatches(
        num_samples=num_samples, batch_size=4, epochs=4, seed=1, num_views=num_views, view_order=view_order
    )


def assert_of_the_images(batch: Batch) -> None:
    """Everything that any teacher said is about the pixels in the batch."""
    images_BP = images_in(batch).flatten(1)
    assert pixels_in_labels(batch).equal(pixels_in_images(batch))
    assert len(batch.others) == 2
    for labels, factor in zip(batch.others, (-1.0, 0.5), strict=True):
        said_BP = factor * images_BP
        expected_BP = said_BP - said_BP.max(dim=1, keepdim=True).values
        assert pixels_in_labels(replace(batch, labels=labels)).equal(expected_BP)
    assert batch.features.keys() == {"rows", "pixels"}
    for feature_BP in batch.features.values():
        assert feature_BP.dtype == torch.float32
        assert feature_BP.equal(images_BP.half().float()), "stored in float16"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("view_order", ["cycle", "random"])
@pytest.mark.parametrize("numbers", [tuple(range(COUNT)), PART], ids=["whole", "part"])
def test_every_teacher_speaks_of_the_same_view_of_the_same_sample(
    stores: list[Store], numbers: tuple[int, ...], view_order: ViewOrder, workers: int
) -> None:
    order = epochs_of(len(numbers), view_order)

    found = load(align_teachers(stores, numbers), order, workers=workers)

    for batch, rows in zip(found, order, strict=True):
        assert batch.source_B.tolist() == rows.source_B.tolist()
        assert batch.views_B.tolist() == rows.views_B.tolist()
        assert_of_the_images(batch)


def test_a_batch_of_one_sample_in_several_views_has_what_each_teacher_said_of_each(stores: list[Store]) -> None:
    (batch,) = load(align_teachers(stores), [RowIndices(SourceIndex(np.array([4, 4, 4, 7])), np.array([2, 0, 1, 1]))])

    assert_of_the_images(batch)
    assert len({tuple(row) for row in batch.features["pixels"].tolist()}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_views_without_end_meet_what_all_teachers_said_of_the_stored_views_in_turn(
    stores: list[Store], workers: int
) -> None:
    """Where other views than the teachers' were allowed."""
    other = record_views(ViewRecipe(transforms=("RandomInvert()",)), num_views=1, digest_every=0)
    aligned = replace(align_teachers(stores, PART), replay=ImageReplay(other, num_samples=COUNT))

    found = load(aligned, epochs_of(len(PART), "cycle", num_views=None), workers=workers)

    assert max(int(batch.views_B.max()) for batch in found) == NUM_VIEWS, "one more than is stored"
    for batch in found:
        source_B, views_B = np.array(PART)[batch.source_B.numpy()], batch.views_B.numpy() % NUM_VIEWS
        for labels, store in zip(batch.others, stores[1:], strict=True):
            assert_same_labels(labels, store.read(source_B, view=views_B))
        assert batch.features["pixels"].equal(stores[1].read_features("pixels", source_B, view=views_B))


@pytest.mark.process
def test_workers_change_nothing(stores: list[Store]) -> None:
    order = epochs_of(COUNT, "random")

    alone, helped = load(align_teachers(stores), order), load(align_teachers(stores), order, workers=2)

    for one, other in zip(alone, helped, strict=True):
        for labels, expected in zip(other.others, one.others, strict=True):
            assert_same_labels(labels, expected)
        assert {name: feature.tolist() for name, feature in other.features.items()} == {
            name: feature.tolist() for name, feature in one.features.items()
        }


def test_a_feature_of_the_first_teacher_is_read_beside_its_labels(stores: list[Store]) -> None:
    """One store may give both."""
    second = stores[1]
    aligned = beside_store(WHOLE, second, (ImageInput(),), subset=False, verify="all")

    (batch,) = load(replace(aligned, features={"pixels": second}), in_sequence(0, COUNT, batch_size=COUNT, view=1))

    assert batch.labels is not None
    assert_same_labels(batch.labels, second.read(np.arange(COUNT), view=1))
    assert batch.features["pixels"].equal(images_in(batch).flatten(1).half().float())


def test_one_teacher_has_no_others_and_features_that_nobody_asked_for_are_not_read(stores: list[Store]) -> None:
    aligned = beside_store(WHOLE, stores[1], (ImageInput(),), subset=False, verify="all")

    (batch,) = load(aligned, in_sequence(0, COUNT, batch_size=COUNT))

    assert batch.others == ()
    assert batch.features == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_to_a_further_store_is_the_readers_own_error(tmp_path: Path, workers: int) -> None:
    source = open_rows(tmp_path / "a.parquet", image_rows(8))
    first, second = dump_rows(tmp_path / "first", source), dump_rows(tmp_path / "second", source, k=2)
    for file in second.manifest.shards[0].files:
        (tmp_path / "second" / file.path).write_bytes(b"damaged")
    aligned = beside_store(source, first, (ImageInput(),), subset=False, verify="all")

    with pytest.raises(DamagedStore, match=r"second.* lists all damage; get those files again") as caught:
        load(replace(aligned, others=(second,)), in_sequence(0, 8, batch_size=4), workers=workers)
    assert "Traceback" not in str(caught.value)


# New classes.


@pytest.mark.parametrize(("new_classes", "expected"), [(False, None), (True, [0, 1, 2, 3, 0, 1])])
def test_targets_of_more_classes_than_the_teachers_are_kept_where_new_ones_are_learnt(
    tmp_path: Path, new_classes: bool, expected: list[int] | None
) -> None:
    source = open_rows(tmp_path / "a.parquet", image_rows(6), class_names=tuple("abcdef"))
    store = dump_rows(tmp_path / "store", source)
    aligned = Aligned(
        source=source,
        inputs=(ImageInput(),),
        store=store,
        store_N=align(source, store),
        new_classes=new_classes,
    )

    (batch,) = load(aligned, in_sequence(0, 6, batch_size=6))

    assert (None if batch.targets_B is None else batch.targets_B.tolist()) == expected
    assert batch.labels is not None


# Devices.


def test_moving_a_batch_moves_what_all_teachers_said(stores: list[Store]) -> None:
    (batch,) = load(align_teachers(stores), in_sequence(0, COUNT, batch_size=COUNT))

    moved = batch.to(torch.device("meta"))

    assert [labels.logits_BK.is_meta for labels in moved.others] == [True, True]
    assert {name: feature.is_meta for name, feature in moved.features.items()} == {"rows": True, "pixels": True}
    assert not batch.features["rows"].is_meta


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_on_cuda_all_of_it_arrives_from_pinned_memory_unchanged(stores: list[Store], workers: int) -> None:
    device = torch.device("cuda")

    (batch,) = load(align_teachers(stores), in_sequence(0, COUNT, batch_size=COUNT), workers=workers, device=device)

    assert all(labels.logits_BK.is_pinned() for labels in batch.others)
    assert all(feature.is_pinned() for feature in batch.features.values())
    assert_of_the_images(batch.to(device).to(CPU))
