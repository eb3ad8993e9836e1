"""A dump of several views: each row is what the teacher says about the view that students will replay."""

# Shape letters: N samples, C classes.

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softlab.errors import InvalidOption, StoreExists, StoreMismatch
from softlab.labels.coding import Coding
from softlab.modalities import modality
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.views import tensor_digest
from softlab.sources.source import Sample
from softlab.store.folder import is_unfinished
from softlab.store.format import FormatName
from softlab.store.pixel_digests import is_digested
from softlab.store.verify import verify_store
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.example import CHECKED_SAMPLES
from softlab.teacher.options import DumpOptions
from tests.sources.pictures import image_of
from tests.store.building import CODINGS, FORMATS, contents
from tests.teacher.augmenting import (
    AUGMENT,
    MIXING,
    dump_views,
    forward_of_view,
    open_uncached,
    samples_of,
    seen,
)
from tests.teacher.dumping import (
    NUM_CLASSES,
    Pictures,
    assert_same_labels,
    dump,
    expected_labels,
    make_options,
    make_teacher,
    stop_at,
)

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)


def seen_by_hook(layer: str, view: int, options: DumpOptions) -> Tensor:
    """A layer's output on one view of all pictures, by a plain forward hook."""
    teacher, outputs = make_teacher(), []
    teacher.get_submodule(layer).register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
    forward_of_view(teacher, Pictures(), view, options)
    return torch.cat(outputs)


# What a store of views holds.


@BOTH_FORMATS
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("augment", [AUGMENT, MIXING], ids=["augmented", "mixed"])
def test_each_views_labels_are_what_the_teacher_says_about_the_replayed_images(
    tmp_path: Path, format: FormatName, coding: Coding, augment: ViewRecipe
) -> None:
    dump_views(tmp_path / "store", 3, format=format, coding=coding, augment=augment)

    store, options = open_uncached(tmp_path / "store"), make_options(coding=coding)
    for view in range(3):
        logits_NC = forward_of_view(make_teacher(), Pictures(), view, options, augment=augment)
        assert_same_labels(store.read(samples_of(store), view=view), expected_labels(logits_NC, options, k=5))
    first, second = (store.read(samples_of(store), view=view) for view in (0, 1))
    assert not first.max_logit_B.equal(second.max_logit_B), "the views differ, so that a mix-up would show"


@BOTH_FORMATS
def test_each_views_features_are_those_of_the_replayed_images(tmp_path: Path, format: FormatName) -> None:
    features = {"map": "conv", "pooled": "relu:mean"}

    dump_views(tmp_path / "store", 2, format=format, feature=features)

    store, options = open_uncached(tmp_path / "store"), make_options()
    for view in range(2):
        found = store.read_features("map", samples_of(store), view=view)
        assert found.equal(seen_by_hook("conv", view, options).half().float())
        pooled = store.read_features("pooled", samples_of(store), view=view)
        assert pooled.equal(seen_by_hook("relu", view, options).mean(dim=(2, 3)).half().float())


def test_views_come_one_after_the_other_in_shards_of_their_own(tmp_path: Path) -> None:
    seen_progress: list[DumpProgress] = []

    summary = dump_views(tmp_path / "store", 2, on_progress=seen_progress.append)

    bounds = [(shard.view, shard.start, shard.stop) for shard in summary.manifest.shards]
    one_view = [(0, 16), (16, 32), (32, 48), (48, 50)]
    assert bounds == [(view, *bound) for view in (0, 1) for bound in one_view]
    assert [progress.rows for progress in seen_progress] == [
        8, 16, 24, 32, 40, 48, 50, 58, 66, 74, 82, 90, 98, 100
    ]  # fmt: skip
    assert {progress.total_rows for progress in seen_progress} == {100}
    assert summary.rows_computed == 100
    assert verify_store(tmp_path / "store").is_intact


def test_the_recipe_is_in_the_manifest_with_every_argument(tmp_path: Path) -> None:
    views = dump_views(tmp_path / "store", 2).manifest.views

    assert (views.num_views, views.seed, views.mixing, views.digest_every) == (2, 5, None, 1)
    assert [transform.name for transform in views.transforms] == ["RandomCrop", "RandomHorizontalFlip"]
    assert views.transforms[0].arguments["size"] == [4, 6]
    assert views.transforms[0].arguments["pad_if_needed"] is False, "defaults are written out"
    assert views.transforms[1].arguments == {"p": 0.5}


def test_one_random_view_is_a_store_as_well(tmp_path: Path) -> None:
    dump_views(tmp_path / "store", 1)

    store = open_uncached(tmp_path / "store")
    logits_NC = forward_of_view(make_teacher(), Pictures(), 0, make_options())
    assert_same_labels(store.read(samples_of(store)), expected_labels(logits_NC, make_options(), k=5))


@pytest.mark.process
def test_a_view_depends_on_neither_the_number_of_views_nor_workers_nor_batches(tmp_path: Path) -> None:
    dump_views(tmp_path / "two", 2, coding="float32")
    dump_views(tmp_path / "three", 3, coding="float32", workers=2)
    dump_views(tmp_path / "batches", 2, coding="float32", batch_size=5)

    two, three, other = (contents(tmp_path / name) for name in ("two", "three", "batches"))
    rows = [name for name in two if "/c/" in name or name.startswith("pixel_digests/")]
    assert {name: three[name] for name in rows} == {name: two[name] for name in rows}
    digests = [name for name in rows if name.startswith("pixel_digests/")]
    assert {name: other[name] for name in digests} == {name: two[name] for name in digests}


def test_each_image_is_decoded_once_for_all_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modality, "LOOKED_AT", 0)  # their headers alone
    source = Counted()

    dump_views(tmp_path / "store", 3, source=source)

    counted = np.bincount(source.reads, minlength=50)
    assert np.count_nonzero(counted == 1) == 50 - CHECKED_SAMPLES
    assert counted.max() <= 2, "some are read once before, to see what the teacher gives"


@dataclass(frozen=True, kw_only=True)
class Counted(Pictures):
    """Notes which pictures are decoded."""

    reads: list[int] = field(default_factory=list)

    def read(self, index: int) -> Sample:
        self.reads.append(index)
        return super().read(index)


# Pixel digests.


@pytest.mark.parametrize(("kept", "every"), [("some", 64), ("all", 1), ("none", 0)])
def test_digests_are_kept_of_one_view_in_64_of_all_or_of_none(tmp_path: Path, kept: str, every: int) -> None:
    source = Pictures(count=100)

    manifest = dump_views(tmp_path / "store", 3, source=source, pixel_digests=kept).manifest

    store = open_uncached(tmp_path / "store")
    assert manifest.views.digest_every == every
    assert len(manifest.digest_files) == (3 if every else 0)
    for view in range(3):
        found = store.read_pixel_digests(view)
        expected = {
            number: tensor_digest(each.example)
            for number, each in enumerate(seen(source, view))
            if is_digested(number, view=view, every=every)
        }
        assert dict(zip(found.store_D.tolist(), found.digests_D.tolist(), strict=True)) == expected
        assert len(expected) == {64: 2, 1: 100, 0: 0}[every]


def test_by_default_the_digests_of_images_as_they_are_are_those_of_their_pixels(tmp_path: Path) -> None:
    source = Pictures(count=100)

    dump(tmp_path / "store", source=source)

    found = open_uncached(tmp_path / "store").read_pixel_digests(0)
    assert found.store_D.tolist() == [0, 64]
    assert found.digests_D.tolist() == [tensor_digest(image_of(source, number)) for number in (0, 64)]


# Mixed views.


def test_a_mixed_view_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    source = Pictures(targets_N=np.arange(50) % NUM_CLASSES)

    mixed = dump_views(tmp_path / "mixed", 2, source=source, augment=MIXING).manifest.statistics["logits"]
    plain = dump_views(tmp_path / "plain", 2, source=source).manifest.statistics["logits"]

    assert (mixed.rows, mixed.rows_with_target, mixed.accuracy) == (100, 0, None)
    assert (plain.rows, plain.rows_with_target) == (100, 100)
    assert plain.accuracy is not None
    assert open_uncached(tmp_path / "mixed").read_samples().targets_N is not None, "students still mix them"


def test_mixing_with_a_single_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="need a second sample to mix with"):
        dump_views(tmp_path / "store", 1, source=Pictures(count=1), augment=MIXING)

    assert not (tmp_path / "store").exists()


# Going on after an interruption.


@BOTH_FORMATS
@pytest.mark.parametrize("rows", [9, 50, 67, 100])
def test_a_dump_of_views_that_was_interrupted_ends_with_the_same_bytes(
    tmp_path: Path, format: FormatName, rows: int
) -> None:
    options: dict[str, Any] = {"format": format, "feature": {"pooled": "relu:mean"}}
    dump_views(tmp_path / "undisturbed", 2, **options)
    with pytest.raises(KeyboardInterrupt):
        dump_views(tmp_path / "store", 2, on_progress=stop_at(rows), **options)
    assert is_unfinished(tmp_path / "store")

    summary = dump_views(tmp_path / "store", 2, **options)

    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")
    assert 0 < summary.rows_computed <= 100
    assert summary.rows_computed < 100 or rows == 9


def test_an_interruption_counts_the_shards_of_all_views(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped with 5 of 8 shards finished") as stopped:
        dump_views(tmp_path / "store", 2, on_progress=stop_at(67))

    assert "Run the same command again to go on." in str(stopped.value)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "number of views": ({"views": 1}, "`dump.views` was 2, is now 1"),
    "seed": ({"views": 2, "augment": replace(AUGMENT, seed=6)}, "`augment.seed` was 5, is now 6"),
    "transforms": (
        {"views": 2, "augment": replace(AUGMENT, transforms=AUGMENT.transforms[:1])},
        "`augment.transforms` was [",
    ),
    "mixing": ({"views": 2, "augment": replace(AUGMENT, mixup=0.2)}, "how views are mixed (`augment`)"),
    "digests": ({"views": 2, "pixel_digests": "some"}, "`dump.pixel_digests`, one in so many, was 1, is now 64"),
}


@pytest.mark.parametrize("change", OTHERS)
@pytest.mark.parametrize("is_finished", [False, True])
def test_other_views_in_the_same_place_are_refused_with_the_difference(
    tmp_path: Path, change: str, is_finished: bool
) -> None:
    out = tmp_path / "store"
    if is_finished:
        dump_views(out, 2)
    else:
        with pytest.raises(KeyboardInterrupt):
            dump_views(out, 2, on_progress=stop_at(33))
    before = contents(out)
    asked, difference = OTHERS[change]

    with pytest.raises(StoreExists if is_finished else StoreMismatch, match=re.escape(difference)) as refused:
        dump_views(out, **asked)

    assert ("`dump.views` with more than it has adds views to it" in str(refused.value)) == is_finished
    assert contents(out) == before


# What is refused.


@pytest.mark.parametrize("views", [2, "4"])
def test_several_views_without_anything_random_are_refused(tmp_path: Path, views: int | str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(f"views = {views}: without anything random")) as refused:
        dump(tmp_path / "store", make_options(views=views))

    assert "`augment.transforms = RandomHorizontalFlip()` or of texts `augment.drop = 0.1`" in str(refused.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("views", [0, -1, "0", "+0", "+-2", "two", "", "+", "1.5"])
def test_what_is_no_number_of_views_is_refused(views: int | str) -> None:
    with pytest.raises(InvalidOption, match=r"expected 1 or more|expected a number, as in `dump.views = 4`, or"):
        make_options(views=views)


@pytest.mark.parametrize("views", [100_001, "+1000000000000"])
def test_views_whose_shards_alone_would_fill_the_memory_are_refused(views: int | str) -> None:
    with pytest.raises(InvalidOption, match=r": expected 100,000 or fewer\. Change `dump.views`\."):
        make_options(views=views)


def test_an_image_that_a_transform_can_not_take_is_refused_with_the_transform(tmp_path: Path) -> None:
    augment = ViewRecipe(transforms=("RandomCrop(28)",))

    with pytest.raises(InvalidOption, match=re.escape("can't be applied to an image of 3x4x6")):
        dump_views(tmp_path / "store", 1, augment=augment)
