"""A torch data set shows the very views that the teacher saw, beside the very labels that are of them."""

# Shape letters: B samples in a batch, P pixels of a picture.

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from softlab.errors import EpochNotSet, InvalidOption, StoreMismatch
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.collator import Collator
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices, ViewOrder, epoch_views
from softlab.loading.view_dataset import ViewDataset
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.inputs import Collated, Inputs, Units
from softlab.sources.source import Sample
from softlab.store.reader import Store
from tests.loading.own_data import are_of, dump_plain
from tests.loading.seen import Part, dump_what_is_seen, expected_image, nameless
from tests.modalities import text_bytes
from tests.modalities.images.batches import images_in
from tests.teacher.augmenting import MIXING
from tests.teacher.dumping import Pictures

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")

COUNT, NUM_VIEWS = 12, 3
WHOLE = nameless(COUNT)
NUMBERS = (7, 3, 11, 0, 5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return dump_what_is_seen(tmp_path_factory.mktemp("seen") / "store", WHOLE, num_views=NUM_VIEWS)


def load(views: ViewDataset, **options: Any) -> DataLoader[Any]:
    return DataLoader(views, batch_size=5, shuffle=True, collate_fn=Collator(views.labels), **options)


def pixels_of(soft: SoftLabels) -> Tensor:
    """What the teacher saw of each sample, [B, P], less the largest value."""
    return torch.empty_like(soft.logits_BK).scatter_(1, soft.class_ids_BK, soft.logits_BK)


def as_pixels(x: Tensor) -> Tensor:
    images_BP = x.flatten(1)
    return images_BP - images_BP.max(dim=1, keepdim=True).values


@pytest.mark.parametrize("order", ["cycle", "random"])
@pytest.mark.parametrize("numbers", [tuple(range(COUNT)), tuple(range(COUNT))[::-1], NUMBERS])
def test_each_item_is_the_view_that_the_teacher_saw_and_its_label_is_of_that_view(
    store: Store, numbers: tuple[int, ...], order: ViewOrder
) -> None:
    views = ViewDataset(Part(whole=WHOLE, numbers=numbers), store, order=order, seed=2, verify="all", subset=True)

    for epoch in range(NUM_VIEWS + 1):
        views.labels.set_epoch(epoch)
        view_N = epoch_views(len(numbers), num_views=NUM_VIEWS, seed=2, epoch=epoch, order=order)
        for batch in load(views):
            assert list(batch) == ["x", "view", "target", "index", "soft_labels"]
            assert batch["target"].tolist() == [numbers[index] for index in batch["index"]]
            assert batch["view"].tolist() == view_N[batch["index"]].tolist()
            assert pixels_of(batch["soft_labels"]).equal(as_pixels(batch["x"]))
            for x, number, view in zip(batch["x"], batch["target"].tolist(), batch["view"].tolist(), strict=True):
                assert x.equal(expected_image(WHOLE, number, view))


def test_an_item_is_what_softlabs_own_loader_makes_of_it(store: Store) -> None:
    input = ImageInput(size=(8, 8), channels=1, mean=(0.3,), std=(0.2,))
    views = ViewDataset(WHOLE, store, input=input, order="random")
    views.labels.set_epoch(4)
    aligned = views._batches.aligned
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))
    chosen = views.labels.to_store(range(COUNT))

    view_N = epoch_views(COUNT, num_views=NUM_VIEWS, seed=0, epoch=4, order="random")
    (batch,) = loader.load([RowIndices(chosen, view_N)])  # type: ignore[arg-type]

    assert torch.stack([views[index]["x"] for index in range(COUNT)]).equal(images_in(batch))


def test_a_label_is_of_the_view_that_its_item_shows_also_when_the_epoch_changes_between_them(store: Store) -> None:
    """Libraries often tell the epoch when a loader's workers have begun with it."""
    views = ViewDataset(WHOLE, store)
    views.labels.set_epoch(1)
    items = [views[index] for index in range(4)]
    views.labels.set_epoch(2)

    batch = Collator(views.labels)(items)

    assert batch["view"].tolist() == [1] * 4
    assert pixels_of(batch["soft_labels"]).equal(as_pixels(batch["x"]))


def test_parts_of_it_show_the_same_views(store: Store) -> None:
    views = ViewDataset(WHOLE, store)
    views.labels.set_epoch(2)

    (batch,) = DataLoader(Subset(views, NUMBERS), batch_size=9, collate_fn=Collator(views.labels))

    assert batch["target"].tolist() == list(NUMBERS)
    assert pixels_of(batch["soft_labels"]).equal(as_pixels(batch["x"]))


@pytest.mark.process
def test_workers_that_stay_show_the_views_of_each_new_epoch(store: Store) -> None:
    views = ViewDataset(WHOLE, store)
    loader = load(views, num_workers=2, persistent_workers=True)

    for epoch in range(NUM_VIEWS + 1):
        views.labels.set_epoch(epoch)
        for batch in loader:
            assert set(batch["view"].tolist()) == {epoch % NUM_VIEWS}
            assert pixels_of(batch["soft_labels"]).equal(as_pixels(batch["x"]))


def test_an_epoch_that_nobody_sets_is_warned_about(store: Store) -> None:
    with pytest.warns(EpochNotSet):
        next(iter(load(ViewDataset(WHOLE, store))))


def test_it_is_a_sequence_that_ends_and_counts_from_both_sides(store: Store) -> None:
    views = ViewDataset(WHOLE, store)
    views.labels.set_epoch(0)

    assert [item["target"] for item in iter(views)] == list(range(COUNT))
    assert views[-1]["index"] == COUNT - 1
    with pytest.raises(IndexError):
        views[COUNT]


def test_mixed_views_tell_the_other_half(tmp_path: Path) -> None:
    store = dump_what_is_seen(tmp_path / "store", WHOLE, augment=MIXING)
    views = ViewDataset(WHOLE, store)
    views.labels.set_epoch(1)

    (batch,) = DataLoader(views, batch_size=COUNT, collate_fn=Collator(views.labels))

    assert pixels_of(batch["soft_labels"]).equal(as_pixels(batch["x"]))
    is_mixed = batch["weight"] < 1
    assert is_mixed.any()
    assert not is_mixed.all()
    assert (batch["partner_target"] != batch["target"])[is_mixed].all()
    assert batch["partner_target"].equal(torch.where(is_mixed, batch["partner_target"], batch["target"]))


def test_samples_as_they_are_are_a_view_too(tmp_path: Path) -> None:
    store = dump_plain(tmp_path / "store", WHOLE)
    views = ViewDataset(WHOLE, store)

    assert are_of(Collator(views.labels)([views[4]])["soft_labels"], store, [4])


def test_a_source_without_targets_gives_none(store: Store) -> None:
    views = ViewDataset(Pictures(count=COUNT, class_names=None), store)
    views.labels.set_epoch(0)

    assert list(views[0]) == ["x", "view", "index"]


@dataclass(frozen=True, kw_only=True)
class Changing(Pictures):
    """Pictures of which some become the ones before them."""

    changed: set[int] = field(default_factory=set)

    def read(self, index: int) -> Sample:
        return super().read(index - (index in self.changed))


def test_a_sample_that_has_changed_is_refused_when_it_is_first_read(store: Store) -> None:
    source = Changing(count=COUNT, class_names=None)
    views = ViewDataset(source, store)
    views.labels.set_epoch(0)

    source.changed.add(5)

    assert views[4]["x"].equal(expected_image(WHOLE, 4, 0))
    with pytest.raises(StoreMismatch, match=r"sample '0005.png' .* content hash differs. Give the very samples"):
        views[5]


def test_a_modality_that_counts_rows_is_not_taken_apart_into_items(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = ViewDataset(WHOLE, store)
    views.labels.set_epoch(0)
    counted = Collated(
        inputs=Inputs(positional=(torch.zeros(1, 3),)), units=Units(rows_B=torch.ones(1), keys_R=torch.zeros(1))
    )
    monkeypatch.setattr(type(MODALITY), "collate", lambda *_: counted)

    with pytest.raises(InvalidOption, match=r"Read its labels in your own loop, with softlab.align\(store, source\)"):
        views[0]


def test_a_source_of_other_samples_or_an_input_without_such_views_is_refused(store: Store) -> None:
    with pytest.raises(StoreMismatch, match="Say subset=True"):
        ViewDataset(Part(whole=WHOLE, numbers=NUMBERS), store)
    with pytest.raises(StoreMismatch, match="2 of your 14 keys are of no sample"):
        ViewDataset(nameless(COUNT + 2), store)
    with pytest.raises(InvalidOption, match="this modality has no such views"):
        ViewDataset(WHOLE, store, input=text_bytes.TextInput())
