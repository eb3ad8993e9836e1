"""Labels, images and targets of a batch are of one and the same view of one and the same sample."""

# Shape letters: B rows in a batch, C channels, H height, W width.

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from softlab.indices import SourceIndex
from softlab.loading import loader
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices, ShuffledBatches, ViewOrder, in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.views import record_views, tensor_digest
from softlab.store.pixel_digests import is_digested
from softlab.store.reader import Store
from tests.loading.seen import (
    Part,
    dump_what_is_seen,
    expected_image,
    nameless,
    pixels_in_images,
    pixels_in_labels,
)
from tests.modalities.images.batches import images_in
from tests.teacher.augmenting import AUGMENT, MIXING, seen

# Three workers are asked for on whatever machine this is.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")

CPU = torch.device("cpu")
COUNT, NUM_VIEWS = 21, 3
WHOLE = nameless(COUNT)
PART = (17, 3, 20, 0, 9, 8, 14, 11)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What a teacher saw of three views of each picture."""
    return dump_what_is_seen(tmp_path_factory.mktemp("seen") / "store", WHOLE, num_views=NUM_VIEWS)


def load(aligned: Aligned, order: ShuffledBatches | list[RowIndices], *, workers: int = 0) -> list[Batch]:
    loader = BatchLoader(aligned, device=CPU, options=LoaderOptions(workers=workers), keep_decoded=True)
    return list(loader.load(order))


def epochs_of(num_samples: int, view_order: ViewOrder, *, num_views: int | None = NUM_VIEWS) -> ShuffledBatches:
    return ShuffledBatches(
        num_samples=num_samples, batch_size=4, epochs=4, seed=1, num_views=num_views, view_order=view_order
    )


# Labels and images belong together.


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("view_order", ["cycle", "random"])
@pytest.mark.parametrize("numbers", [tuple(range(COUNT)), PART])
def test_no_row_ever_has_the_label_of_another_view_or_sample(
    store: Store, numbers: tuple[int, ...], view_order: ViewOrder, workers: int
) -> None:
    source = Part(whole=WHOLE, numbers=numbers)
    aligned = beside_store(source, store, (ImageInput(),), subset=True, verify="all")
    order = epochs_of(len(source), view_order)

    found = load(aligned, order, workers=workers)

    for batch, rows in zip(found, order, strict=True):
        assert batch.source_B.tolist() == rows.source_B.tolist()
        assert batch.views_B.tolist() == rows.views_B.tolist()
        assert pixels_in_labels(batch).equal(pixels_in_images(batch))
        assert batch.targets_B is not None
        for number, view, image_CHW, target in zip(
            batch.source_B.tolist(),
            batch.views_B.tolist(),
            images_in(batch),
            batch.targets_B.tolist(),
            strict=True,
        ):
            assert image_CHW.equal(expected_image(WHOLE, numbers[number], view))
            assert target == numbers[number]


def test_the_views_of_a_sample_differ_so_that_a_wrong_label_would_show(store: Store) -> None:
    assert store.num_views == NUM_VIEWS
    for number in range(COUNT):
        images = {expected_image(WHOLE, number, view).numpy().tobytes() for view in range(NUM_VIEWS)}
        assert len(images) > 1


def test_a_batch_may_hold_one_sample_in_several_views(store: Store) -> None:
    aligned = beside_store(WHOLE, store, (ImageInput(),), subset=False, verify="some")

    (batch,) = load(aligned, [RowIndices(SourceIndex(np.array([4, 4, 4, 7])), np.array([2, 0, 1, 1]))])

    assert pixels_in_labels(batch).equal(pixels_in_images(batch))


def test_views_without_end_meet_the_labels_of_the_stored_views_in_turn(store: Store) -> None:
    """Where other views than the teacher's were allowed."""
    other = record_views(ViewRecipe(transforms=("RandomInvert()",)), num_views=1, digest_every=0)
    aligned = replace(
        beside_store(WHOLE, store, (ImageInput(),), subset=False, verify="some"),
        replay=ImageReplay(other, num_samples=COUNT),
    )

    for batch in load(aligned, epochs_of(COUNT, "cycle", num_views=None)):
        assert batch.labels is not None
        expected = store.read(batch.source_B.numpy(), view=batch.views_B.numpy() % NUM_VIEWS)
        assert batch.labels.logits_BK.equal(expected.logits_BK)
        assert batch.labels.class_ids_BK.equal(expected.class_ids_BK)


# The teacher and its students see the same pixels.

recipes = st.builds(
    ViewRecipe,
    transforms=st.lists(
        st.sampled_from(
            [
                "RandomCrop([4, 6], padding=2)",
                "RandomResizedCrop([4, 6], antialias=True)",
                "RandomHorizontalFlip()",
                "RandomVerticalFlip(0.3)",
                "RandomRotation(20)",
                "ColorJitter(0.4, 0.4, 0.4, 0.1)",
                "RandAugment()",
                "TrivialAugmentWide()",
                "RandomErasing(0.5)",
                "RandomApply([GaussianBlur(3)], p=0.4)",
                "RandomPhotometricDistort()",
            ]
        ),
        max_size=3,
    ).map(tuple),
    mixup=st.none() | st.sampled_from([0.2, 1.0]),
    cutmix=st.none() | st.just(1.0),
    mix_share=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 2**63 - 1),
)


def images_by_row(found: list[Batch]) -> dict[tuple[int, int], Tensor]:
    return {
        (number, view): image_CHW
        for batch in found
        for number, view, image_CHW in zip(
            batch.source_B.tolist(), batch.views_B.tolist(), images_in(batch), strict=True
        )
    }


def as_a_teacher_loads(aligned: Aligned, *, num_views: int, batch_size: int, workers: int) -> list[Batch]:
    views = [in_sequence(0, COUNT, batch_size=batch_size, view=view) for view in range(num_views)]
    return load(aligned, [rows for view in views for rows in view], workers=workers)


@pytest.mark.process
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    recipe=recipes,
    teacher_batch=st.integers(1, COUNT),
    student_batch=st.integers(1, COUNT),
    seed=st.integers(0, 100),
    view_order=st.sampled_from(["cycle", "random"]),
    data=st.data(),
)
def test_students_see_the_very_pixels_of_the_teacher_whatever_the_batches_and_their_order(
    recipe: ViewRecipe, teacher_batch: int, student_batch: int, seed: int, view_order: ViewOrder, data: st.DataObject
) -> None:
    num_views = 3
    replay = ImageReplay(record_views(recipe, num_views=num_views, digest_every=0), num_samples=COUNT)
    aligned = Aligned(source=WHOLE, inputs=(ImageInput(),), replay=replay)
    # A worker takes a tenth of a second to start, so that most examples run without.
    workers = data.draw(st.sampled_from([0, 0, 0, 0, 1, 3]))
    order = ShuffledBatches(
        num_samples=COUNT, batch_size=student_batch, epochs=num_views, seed=seed, num_views=num_views,
        view_order=view_order,
    )  # fmt: skip

    taught = images_by_row(as_a_teacher_loads(aligned, num_views=num_views, batch_size=teacher_batch, workers=0))
    learnt = images_by_row(load(aligned, order, workers=workers))

    assert len(taught) == COUNT * num_views
    assert learnt.keys() <= taught.keys()
    for row, image_CHW in learnt.items():
        assert image_CHW.equal(taught[row])


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("recipe", [AUGMENT, MIXING], ids=["augmented", "mixed"])
def test_workers_change_no_pixel_of_any_view(recipe: ViewRecipe, workers: int) -> None:
    replay = ImageReplay(record_views(recipe, num_views=4, digest_every=1), num_samples=COUNT)
    aligned = Aligned(source=WHOLE, inputs=(ImageInput(),), replay=replay, digest_every=1)

    found = as_a_teacher_loads(aligned, num_views=4, batch_size=4, workers=workers)

    for (number, view), image_CHW in images_by_row(found).items():
        assert image_CHW.equal(expected_image(WHOLE, number, view, augment=recipe))
    expected = [tensor_digest(each.example) for view in range(4) for each in seen(WHOLE, view, augment=recipe)]
    assert [digest for batch in found for digest in batch.view_digests] == expected


def test_loading_views_leaves_the_global_random_state_as_it_was(store: Store) -> None:
    aligned = beside_store(WHOLE, store, (ImageInput(),), subset=False, verify="some")
    before = torch.get_rng_state()

    load(aligned, epochs_of(COUNT, "random"))

    assert torch.get_rng_state().equal(before)


def test_a_decoded_image_that_is_kept_serves_every_view_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ViewRecipe(transforms=("RandomErasing(1.0)", "RandomInvert(0.5)"))
    replay = ImageReplay(record_views(recipe, num_views=6, digest_every=0), num_samples=COUNT)
    aligned = Aligned(source=WHOLE, inputs=(ImageInput(),), replay=replay)

    kept = as_a_teacher_loads(aligned, num_views=6, batch_size=5, workers=0)
    monkeypatch.setattr(loader, "DECODED_BYTES", 0)
    read_anew = as_a_teacher_loads(aligned, num_views=6, batch_size=5, workers=0)

    assert all(images_in(one).equal(images_in(other)) for one, other in zip(kept, read_anew, strict=True))


# What else a batch of views holds.


@pytest.mark.parametrize("every", [0, 1, 4])
def test_digests_are_taken_of_the_views_that_a_store_keeps_them_of(every: int) -> None:
    views = record_views(AUGMENT, num_views=3, digest_every=every)
    aligned = Aligned(
        source=WHOLE, inputs=(ImageInput(),), replay=ImageReplay(views, num_samples=COUNT), digest_every=every
    )

    for view in range(3):
        found = load(aligned, in_sequence(0, COUNT, batch_size=8, view=view))
        expected = [
            tensor_digest(each.example)
            for number, each in enumerate(seen(WHOLE, view))
            if is_digested(number, view=view, every=every)
        ]
        assert [digest for batch in found for digest in batch.view_digests] == expected
        assert len(expected) == (0 if every == 0 else len(range(view % every, COUNT, every)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mixed_view_has_the_targets_and_shares_of_both_its_samples(workers: int) -> None:
    replay = ImageReplay(record_views(MIXING, num_views=2, digest_every=0), num_samples=COUNT)
    aligned = Aligned(source=WHOLE, inputs=(ImageInput(),), replay=replay)

    found = load(aligned, in_sequence(0, COUNT, batch_size=8, view=1), workers=workers)

    partners = [target for batch in found if batch.mixed for target in batch.mixed.targets_B.tolist()]
    weights = [weight for batch in found if batch.mixed for weight in batch.mixed.weights_B.tolist()]
    expected = seen(WHOLE, 1, augment=MIXING)
    assert partners == [view.partner for view in expected]
    assert weights == pytest.approx([view.weight for view in expected])
    assert 0 < sum(weight < 1 for weight in weights) < COUNT, "some views are mixed and some are not"


@pytest.mark.parametrize("replaced", [AUGMENT, MIXING], ids=["not mixed", "without targets"])
def test_where_nothing_is_mixed_or_no_target_known_there_is_no_second_target(replaced: ViewRecipe) -> None:
    source = WHOLE if replaced is AUGMENT else replace(WHOLE, targets_N=None)
    replay = ImageReplay(record_views(replaced, num_views=1, digest_every=0), num_samples=COUNT)

    (batch,) = load(
        Aligned(source=source, inputs=(ImageInput(),), replay=replay), in_sequence(0, COUNT, batch_size=COUNT)
    )

    assert batch.mixed is None


def test_moving_a_batch_moves_the_second_targets_too() -> None:
    replay = ImageReplay(record_views(MIXING, num_views=1, digest_every=0), num_samples=COUNT)
    aligned = Aligned(source=WHOLE, inputs=(ImageInput(),), replay=replay)
    (batch,) = load(aligned, in_sequence(0, COUNT, batch_size=COUNT))

    moved = batch.to(torch.device("meta"))

    assert moved.mixed is not None
    assert moved.mixed.targets_B.is_meta
    assert moved.mixed.weights_B.is_meta


@pytest.mark.gpu
def test_mixed_views_arrive_on_cuda_from_pinned_memory_unchanged() -> None:
    replay = ImageReplay(record_views(MIXING, num_views=1, digest_every=0), num_samples=COUNT)
    aligned = Aligned(source=WHOLE, inputs=(ImageInput(),), replay=replay)
    (expected,) = load(aligned, in_sequence(0, COUNT, batch_size=COUNT))
    loader = BatchLoader(aligned, device=torch.device("cuda"), options=LoaderOptions(workers=2))

    (batch,) = loader.load(in_sequence(0, COUNT, batch_size=COUNT))
    moved = batch.to(torch.device("cuda"))

    assert batch.mixed is not None
    assert moved.mixed is not None
    assert expected.mixed is not None
    assert batch.mixed.weights_B.is_pinned()
    assert moved.mixed.targets_B.cpu().equal(expected.mixed.targets_B)
    assert moved.mixed.weights_B.cpu().equal(expected.mixed.weights_B)
    assert images_in(moved).cpu().equal(images_in(expected))


def test_a_view_of_a_store_is_made_of_samples_by_the_stores_numbers(store: Store) -> None:
    """The same picture has another number in another source, and must be cropped as it was for the teacher."""
    source = Part(whole=WHOLE, numbers=PART)
    aligned = beside_store(source, store, (ImageInput(),), subset=True, verify="all")

    assert aligned.to_store(SourceIndex(np.array([0, 2]))).tolist() == [17, 20]
    assert Aligned(source=source, inputs=(ImageInput(),)).to_store(SourceIndex(np.array([0, 2]))).tolist() == [0, 2]
