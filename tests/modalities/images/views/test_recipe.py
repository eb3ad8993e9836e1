import re
from typing import Any

import msgspec
import pytest

from softlab.errors import InvalidOption
from softlab.manifest import ViewsRecord, views_fingerprint
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.views import describe_views, record_views


def record_of(*transforms: str, **options: Any) -> ViewsRecord:
    return record_views(ViewRecipe(transforms=transforms, **options), num_views=4, digest_every=64)


FLIP = "RandomHorizontalFlip()"
CROP = "RandomCrop(28, padding=2)"


# What a manifest says.


def test_a_record_holds_every_argument() -> None:
    record = record_of(FLIP, mixup=0.2, cutmix=1.0, mix_share=0.8, seed=7)

    assert msgspec.json.decode(msgspec.json.encode(record)) == {
        "num_views": 4,
        "seed": 7,
        "transforms": [{"name": "RandomHorizontalFlip", "arguments": {"p": 0.5}}],
        "mixing": {"mixup": 0.2, "cutmix": 1.0, "cutmix_share": 0.5, "share": 0.8},
        "fingerprint": record.fingerprint,
        "digest_every": 64,
        "first": 0,
    }


@pytest.mark.parametrize("options", [{}, {"mixup": 0.2}, {"cutmix": 1.0, "seed": 2**63 - 1}, {"mix_share": 0.0}])
def test_a_record_is_read_back_as_it_was(options: dict[str, Any]) -> None:
    record = record_of(CROP, "RandomApply([ColorJitter(0.4), RandAugment()], 0.3)", **options)

    found = msgspec.json.decode(msgspec.json.encode(record), type=ViewsRecord)

    assert found == record
    assert found.fingerprint == views_fingerprint(seed=found.seed, transforms=found.transforms, mixing=found.mixing)


def test_without_a_random_part_the_record_is_that_of_images_as_they_are() -> None:
    expected = ViewsRecord(num_views=4, digest_every=64)

    assert record_of() == expected
    assert record_of(seed=5) == expected
    assert not ViewRecipe(seed=5).is_random


@pytest.mark.parametrize("options", [{"transforms": (FLIP,)}, {"mixup": 0.1}, {"cutmix": 0.1}])
def test_transforms_and_mixing_make_views_differ(options: dict[str, Any]) -> None:
    assert ViewRecipe(**options).is_random
    assert ViewRecipe(**options).mixes == ("transforms" not in options)


# Fingerprints.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RandomHorizontalFlip", "RandomHorizontalFlip()"),
        ("RandomHorizontalFlip", "RandomHorizontalFlip(p=0.5)"),
        ("RandomCrop(28, 2)", "RandomCrop(padding=2, size=28)"),
        ("RandomApply([RandomHorizontalFlip()])", "RandomApply(p=0.5, transforms=(RandomHorizontalFlip(0.5),))"),
    ],
)
def test_two_ways_to_write_a_recipe_have_one_fingerprint(one: str, other: str) -> None:
    assert record_of(one).fingerprint == record_of(other).fingerprint


def test_numbers_of_views_and_digests_are_not_part_of_a_fingerprint() -> None:
    record = record_views(ViewRecipe(transforms=(FLIP, CROP)), num_views=1, digest_every=0)

    assert record.fingerprint == record_of(FLIP, CROP).fingerprint


def test_whatever_changes_a_view_changes_the_fingerprint() -> None:
    records = [
        record_of(),
        record_of(FLIP),
        record_of(FLIP, FLIP),
        record_of(FLIP, CROP),
        record_of(CROP, FLIP),
        record_of(FLIP, seed=1),
        record_of("RandomHorizontalFlip(0.4)"),
        record_of("RandomVerticalFlip()"),
        record_of(f"RandomApply([{FLIP}])"),
        record_of(f"RandomOrder([{FLIP}, {CROP}])"),
        record_of(f"RandomOrder([{CROP}, {FLIP}])"),
        record_of(FLIP, mixup=0.2),
        record_of(FLIP, mixup=0.3),
        record_of(FLIP, cutmix=0.2),
        record_of(FLIP, mixup=0.2, cutmix=0.2),
        record_of(FLIP, mixup=0.2, cutmix=0.2, cutmix_share=0.4),
        record_of(FLIP, mixup=0.2, mix_share=0.5),
    ]

    assert len({record.fingerprint for record in records}) == len(records)


def test_fingerprints_stay_the_same() -> None:
    """They are in stores on disk."""
    mixed = record_of(FLIP, mixup=0.2, cutmix=1.0, seed=7)

    assert record_of().fingerprint == "f721d70497e5a6c611215d3d384d3fe37ed771c312139a89cb8bd842692131a1"
    assert record_of(FLIP, seed=7).fingerprint == "a574417a96865642e1c83d1bf08ef3957c4fd4857cbf512d5715ce0cd3847bcb"
    assert mixed.fingerprint == "3bcfeacd586cd2bfac8f01eed88ae23c3fad5546e99184647427ee45aa15196c"


# Descriptions.


def test_views_are_described_in_one_line() -> None:
    assert describe_views(record_of()) == "samples as they are"
    assert describe_views(record_of("RandomHorizontalFlip(0.5)", "RandomCrop(28, 2)", seed=3)) == (
        "RandomHorizontalFlip(), RandomCrop(size=28, padding=2) (seed 3)"
    )
    assert describe_views(record_of(mixup=0.2, cutmix=1)) == "MixUp(alpha=0.2), CutMix(alpha=1) (seed 0)"
    assert describe_views(record_of(cutmix=1, mix_share=0.5)) == "CutMix(alpha=1) for 0.5 of the views (seed 0)"
    assert describe_views(record_of(mixup=0.2, cutmix=1, cutmix_share=0.3)) == (
        "MixUp(alpha=0.2), CutMix(alpha=1) for 1 of the views, 0.3 of them cut (seed 0)"
    )


# What is refused.


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mixup": 0.0}, "augment.mixup = 0.0: expected 0.001 to 1000. Change `augment.mixup`."),
        ({"mixup": -1.0}, "augment.mixup = -1.0: expected 0.001 to 1000. Change `augment.mixup`."),
        ({"mixup": 1e-310}, "augment.mixup = 1e-310: expected 0.001 to 1000."),
        ({"cutmix": 1000.1}, "augment.cutmix = 1000.1: expected 0.001 to 1000. Change `augment.cutmix`."),
        ({"cutmix": float("nan")}, "augment.cutmix = nan: expected 0.001 to 1000. Change `augment.cutmix`."),
        ({"cutmix": float("inf")}, "augment.cutmix = inf: expected 0.001 to 1000. Change `augment.cutmix`."),
        ({"cutmix_share": 1.1}, "augment.cutmix_share = 1.1: expected 0 to 1. Change `augment.cutmix_share`."),
        ({"cutmix_share": float("nan")}, "augment.cutmix_share = nan: expected 0 to 1. Change `augment.cutmix_share`."),
        ({"mix_share": -0.1}, "augment.mix_share = -0.1: expected 0 to 1. Change `augment.mix_share`."),
        ({"seed": -1}, "augment.seed = -1: expected 0 to 2^63 - 1. Change `augment.seed`."),
        ({"seed": 2**63}, "augment.seed = 9223372036854775808: expected 0 to 2^63 - 1. Change `augment.seed`."),
        ({"transforms": (FLIP, "RandomCrap(28)")}, "transform 'RandomCrap' isn't one that views are made of."),
        ({"transforms": (FLIP, "RandomCrop(28, paddin=2)")}, "transform RandomCrop has no argument 'paddin'."),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(text)):
        ViewRecipe(**options)


@pytest.mark.parametrize(
    "options",
    [{"mixup": 0.001}, {"cutmix": 1000}, {"mix_share": 0}, {"cutmix_share": 1}, {"seed": 2**63 - 1}],
)
def test_the_ends_of_each_range_are_accepted(options: dict[str, Any]) -> None:
    record = record_of(FLIP, **options)

    assert msgspec.json.decode(msgspec.json.encode(record), type=ViewsRecord) == record
