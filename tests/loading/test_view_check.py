"""Views that differ from the teacher's by a single pixel are refused, with what may be the cause."""

# Shape letters: C channels, H height, W width.

import re
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from torch import Tensor
from torchvision.transforms import v2

from softlab.errors import InvalidOption, NotAStore, StoreMismatch
from softlab.indices import StoreIndex
from softlab.loading.sample_check import align
from softlab.loading.view_check import (
    IN_TRAINING,
    SAMPLES_COMPARED,
    VIEWS_COMPARED,
    check_recipe,
    check_views,
    store_replay,
)
from softlab.manifest import decode_manifest, encode, views_fingerprint
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.views import record_views
from softlab.sources.source import Sample, Source
from softlab.store.reader import Store, open_store
from tests.loading.seen import Part
from tests.teacher.augmenting import AUGMENT, MIXING, dump_views
from tests.teacher.dumping import Pictures

WHOLE = Pictures()
PART = (40, 3, 9, 21, 33)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    dump_views(folder / "all", 3)
    dump_views(folder / "some", 3, pixel_digests="some")
    dump_views(folder / "none", 3, pixel_digests="none")
    dump_views(folder / "mixed", 3, augment=MIXING)
    dump_views(folder / "many", 12, source=Pictures(count=20))
    return folder


def check(store: Store, source: Source = WHOLE, **options: Any) -> None:
    store_N = align(source, store, subset=True)
    if isinstance(source, Counted):
        source.reads.clear()  # of the alignment
    check_views(source, store, store_N, store_replay(store, store_N, MODALITY), MODALITY, **options)


@pytest.fixture
def change_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last transform changes a single pixel by 1, as another version of torchvision might."""
    real = v2.RandomHorizontalFlip.forward

    def forward(self: v2.RandomHorizontalFlip, image_CHW: Tensor) -> Tensor:
        changed_CHW: Tensor = real(self, image_CHW).clone()
        changed_CHW[0, 0, 0] ^= 1
        return changed_CHW

    monkeypatch.setattr(v2.RandomHorizontalFlip, "forward", forward)


# The teacher's own views.


@pytest.mark.parametrize("name", ["all", "some", "none", "mixed"])
@pytest.mark.parametrize("verify", ["some", "all"])
def test_the_views_that_the_teacher_saw_are_found_to_be_so(folder: Path, name: str, verify: Any) -> None:
    check(open_store(folder / name), verify=verify)


@pytest.mark.parametrize("verify", ["some", "all"])
def test_a_part_of_the_samples_in_another_order_is_found_to_be_so(folder: Path, verify: Any) -> None:
    check(open_store(folder / "all"), Part(whole=WHOLE, numbers=PART), verify=verify)


# Views that differ.


@pytest.mark.usefixtures("change_pixel")
def test_one_pixel_that_differs_is_refused_with_the_versions_of_both_sides(folder: Path) -> None:
    store = with_libraries(open_store(folder / "all"), torchvision="0.15.0", torch="2.0.0")

    with pytest.raises(StoreMismatch) as refused:
        check(store, verify="all")

    message = str(refused.value)
    assert message.startswith(f"{store.path}: view 0 of sample '0000.png' isn't what the teacher saw: its pixels ")
    assert "differ, as do those of 150 of 150 views compared." in message
    pillow, numpy = version("pillow"), version("numpy")
    assert f"The store was made with torch 2.0.0, torchvision 0.15.0, numpy {numpy}, pillow {pillow}; " in message
    assert (
        "; here are " + ", ".join(f"{name} {version(name)}" for name in ("torch", *MODALITY.libraries)) + ". "
        in message
    )
    assert message.endswith(IN_TRAINING)
    assert "`check.views_mismatch = allow`" in IN_TRAINING


@pytest.mark.usefixtures("change_pixel")
def test_where_the_versions_are_the_same_the_processor_is_named(folder: Path) -> None:
    store = open_store(folder / "all")

    with pytest.raises(StoreMismatch, match=r"These are the same, so this processor \(.+\) may round otherwise\. "):
        check(store)
    with pytest.raises(StoreMismatch) as refused:
        check(with_libraries(store, torch="2.0.0"))
    assert "processor" not in str(refused.value)


def with_libraries(store: Store, **versions: str) -> Store:
    libraries = store.manifest.libraries | versions
    manifest = msgspec.structs.replace(store.manifest, libraries=libraries)
    return Store(store.path, manifest, store.digest, cache=store._cache)


@pytest.mark.usefixtures("change_pixel")
def test_where_a_few_views_are_compared_the_difference_is_found_too(folder: Path) -> None:
    with pytest.raises(StoreMismatch, match=f"of {3 * SAMPLES_COMPARED} of {3 * SAMPLES_COMPARED} views compared"):
        check(open_store(folder / "all"))
    with pytest.raises(StoreMismatch, match="of 3 of 3 views compared"):  # sample 0 in view 0, 1 in 1, 2 in 2
        check(open_store(folder / "some"))
    with pytest.raises(StoreMismatch, match="of 150 views compared"):
        check(open_store(folder / "mixed"), verify="all")


@pytest.mark.usefixtures("change_pixel")
def test_without_digests_nothing_can_be_compared(folder: Path) -> None:
    check(open_store(folder / "none"), verify="all")


@pytest.mark.usefixtures("change_pixel")
def test_the_next_step_is_the_callers(folder: Path) -> None:
    with pytest.raises(StoreMismatch, match=r"Do something else\.$"):
        check(open_store(folder / "all"), next_step="Do something else.")


@dataclass(frozen=True, kw_only=True)
class Decoded(Pictures):
    """Picture 7 is decoded to other pixels than before, from the same bytes, as by another version of a decoder."""

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        return replace(sample, fields={"image": self._pixels(index) ^ 1}) if index == 7 else sample


def test_verifying_all_finds_the_one_sample_that_differs_in_all_its_views(folder: Path) -> None:
    with pytest.raises(StoreMismatch, match=r"view 0 of sample '0007\.png' isn't .* those of 3 of 150 views compared"):
        check(open_store(folder / "all"), Decoded(), verify="all")


def test_of_a_part_the_sample_is_named_by_its_own_key(folder: Path) -> None:
    part = Part(whole=Decoded(), numbers=(40, 7, 9))

    with pytest.raises(StoreMismatch, match=r"view 0 of sample '0007\.png' isn't .* of 3 of 9 views compared"):
        check(open_store(folder / "all"), part, verify="all")


def test_another_seed_is_refused_as_are_other_transforms(folder: Path) -> None:
    store = open_store(folder / "all")
    for other in (replace(AUGMENT, seed=6), replace(AUGMENT, transforms=AUGMENT.transforms[:1])):
        views = record_views(other, num_views=3, digest_every=1)
        tampered = Store(
            store.path, msgspec.structs.replace(store.manifest, views=views), store.digest, cache=store._cache
        )

        with pytest.raises(StoreMismatch, match="isn't what the teacher saw"):
            check(tampered)


# How much is compared.


@dataclass(frozen=True, kw_only=True)
class Counted(Pictures):
    """Notes which pictures are read."""

    reads: list[int] = field(default_factory=list)

    def read(self, index: int) -> Sample:
        self.reads.append(index)
        return super().read(index)


def reads_of_check(store: Store, **options: Any) -> list[int]:
    """For the views alone: the samples themselves were compared before."""
    source = Counted(count=20)
    store_N = align(source, store)
    source.reads.clear()
    check_views(source, store, store_N, store_replay(store, store_N, MODALITY), MODALITY, **options)
    return source.reads


def test_some_are_a_few_samples_of_a_few_views_and_others_each_time(folder: Path) -> None:
    store = open_store(folder / "many")
    chosen = set()

    for _ in range(5):
        reads = reads_of_check(store)
        chosen.add(tuple(reads))
        assert len(reads) == VIEWS_COMPARED * SAMPLES_COMPARED < 12 * 20

    assert len(chosen) > 1


def test_all_are_all(folder: Path) -> None:
    reads = reads_of_check(open_store(folder / "many"), verify="all")

    assert np.bincount(reads).tolist() == [12] * 20


# Recipes.


def test_the_recipe_of_the_store_is_accepted_and_any_other_refused_with_both(folder: Path) -> None:
    store, own = open_store(folder / "all"), record_views(AUGMENT, num_views=1, digest_every=0)
    check_recipe(store, asked="the same", fingerprint=own.fingerprint)

    with pytest.raises(StoreMismatch) as refused:
        check_recipe(store, asked="RandomInvert() (seed 0)", fingerprint="0" * 64)

    assert str(refused.value) == (
        f"{store.path}: the teacher saw other views: RandomCrop(size=[4, 6], padding=2), RandomHorizontalFlip() "
        f"(seed 5). [augment] asks for RandomInvert() (seed 0). Leave [augment] out, and the store's own views are "
        f"replayed; or train on other views than the teacher's by saying `check.views_mismatch = allow`."
    )


@pytest.mark.parametrize("numbers", [(0, 1, 2), tuple(reversed(range(50)))])
def test_mixed_views_need_the_whole_source_in_its_own_order(folder: Path, numbers: tuple[int, ...]) -> None:
    store, source = open_store(folder / "mixed"), Part(whole=WHOLE, numbers=numbers)

    with pytest.raises(StoreMismatch, match=re.escape("its views are mixed with any of its 50 samples")) as refused:
        store_replay(store, align(source, store, subset=True), MODALITY)

    assert "Give the whole source; `run.max_samples` trains on its first samples only." in str(refused.value)


def test_transforms_of_a_store_that_can_not_be_built_are_refused(folder: Path) -> None:
    """A store may come from anyone: what it names is looked up in a list, never imported."""
    store = open_store(folder / "all")
    views = record_views(ViewRecipe(transforms=("RandomInvert()",)), num_views=3, digest_every=0)
    (transform,) = views.transforms
    evil = msgspec.structs.replace(views, transforms=(msgspec.structs.replace(transform, name="os.system"),))

    with pytest.raises(InvalidOption, match=r"transform 'os\.system' isn't one that views are made of"):
        store_replay(
            Store(store.path, msgspec.structs.replace(store.manifest, views=evil), store.digest, cache=store._cache),
            StoreIndex(np.arange(50)),
            MODALITY,
        )


def test_a_store_mixed_by_neither_kind_is_not_a_store(folder: Path) -> None:
    manifest = open_store(folder / "mixed").manifest
    views = manifest.views
    assert views.mixing is not None
    neither = msgspec.structs.replace(views.mixing, mixup=None, cutmix=None)
    fingerprint = views_fingerprint(seed=views.seed, transforms=views.transforms, mixing=neither)
    spoilt = msgspec.structs.replace(views, mixing=neither, fingerprint=fingerprint)

    with pytest.raises(NotAStore, match="its views are mixed, but neither by MixUp nor by CutMix"):
        decode_manifest(encode(msgspec.structs.replace(manifest, views=spoilt)), where="store/manifest.json")
