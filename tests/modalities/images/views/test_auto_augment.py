"""torchvision itself says what the pixels are."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from softlab.modalities.images.views import auto_augment
from softlab.modalities.images.views.auto_augment import MOST_PIXELS, MOVES, sharpen
from softlab.modalities.images.views.transforms import FASTER, build_transform, parse_transform

# Shape letters: C channels, H height, W width.

SHAPES = [(3, 224, 224), (1, 28, 28), (3, 17, 40), (3, 2, 5), (1, 1, 1), (3, 3, 3)]
CALLS = ["RandAugment()", "RandAugment(4, 30, 31)", "TrivialAugmentWide()", "AutoAugment()", "AugMix()"]
OTHERS = ["RandAugment(interpolation='bilinear')", "RandAugment(fill=7)", "TrivialAugmentWide(fill=[1, 2, 3])"]


def _random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _drawn(transform: Callable[[Tensor], Tensor], image_CHW: Tensor, *, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return transform(image_CHW)


def _pair(call: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """softlab's and torchvision's own."""
    record = parse_transform(call)
    ours = build_transform(record)
    assert type(ours) is FASTER[record.name]
    theirs = dict(record.arguments)
    theirs["interpolation"] = InterpolationMode(theirs["interpolation"])
    if "policy" in theirs:
        theirs["policy"] = v2.AutoAugmentPolicy(theirs["policy"])
    return ours, getattr(v2, record.name)(**theirs)


@pytest.mark.parametrize("call", [*CALLS, *OTHERS])
def test_an_image_becomes_what_torchvision_makes_of_it(call: str) -> None:
    ours, theirs = _pair(call)

    for seed, shape in product(range(24), SHAPES):
        if shape[0] == 3 or "[1, 2, 3]" not in call:
            image_CHW = _random_image(*shape, seed=seed)
            assert torch.equal(_drawn(ours, image_CHW, seed=seed), _drawn(theirs, image_CHW, seed=seed)), (shape, seed)


@pytest.mark.parametrize("transform_id", MOVES)
def test_a_move_takes_the_pixels_that_torchvision_takes(transform_id: str) -> None:
    ours, theirs = auto_augment.RandAugment(), v2.RandAugment()
    image_CHW, how = _random_image(3, 61, 80), {"interpolation": InterpolationMode.NEAREST, "fill": ours._fill}

    for magnitude in [*torch.linspace(-40, 40, 81).tolist(), 0.27, -0.27, 0.5, 0.001]:
        expected = theirs._apply_image_or_video_transform(image_CHW, transform_id, magnitude, **how)
        assert torch.equal(ours._apply_image_or_video_transform(image_CHW, transform_id, magnitude, **how), expected)


def test_a_move_is_asked_of_torchvision_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, original = [], v2.functional.rotate

    def rotate(image: Tensor, **how: Any) -> Tensor:
        asked.append(image)
        rotated: Tensor = original(image, **how)
        return rotated

    monkeypatch.setattr(v2.functional, "rotate", rotate)
    ours = auto_augment.RandAugment()
    how = {"interpolation": InterpolationMode.NEAREST, "fill": ours._fill}

    for seed in range(5):
        ours._apply_image_or_video_transform(_random_image(3, 33, 35, seed=seed), "Rotate", 12.125, **how)

    assert len(asked) == 1


def test_moves_of_large_images_are_not_kept() -> None:
    before = auto_augment._origins.cache_info().currsize
    ours = auto_augment.RandAugment()
    how = {"interpolation": InterpolationMode.NEAREST, "fill": ours._fill}

    ours._apply_image_or_video_transform(_random_image(1, 1, MOST_PIXELS + 1), "TranslateX", 3.0, **how)

    assert auto_augment._origins.cache_info().currsize == before


@pytest.mark.parametrize("factor", [0.0, 0.01, 0.1, 0.73, 1.0, 1.27, 1.9, 1.99, 3.0])
def test_sharpened_pixels_are_those_of_torchvision(factor: float) -> None:
    extremes_CHW = 255 * (_random_image(3, 60, 61, seed=1) % 2)

    for image_CHW in (_random_image(3, 200, 201), extremes_CHW, torch.full((1, 3, 9), 255, dtype=torch.uint8)):
        assert torch.equal(sharpen(image_CHW, factor=factor), v2.functional.adjust_sharpness(image_CHW, factor))


def test_every_mean_of_nine_pixels_is_rounded_as_torchvision_rounds_it() -> None:
    middle, others = torch.meshgrid(torch.arange(256), torch.arange(8 * 255 + 1), indexing="ij")
    share, more = others // 8, others % 8
    ring = [share + (place < more) for place in range(8)]
    pixels_1HW = torch.stack([*ring[:4], middle, *ring[4:]]).reshape(3, 3, 256, -1).permute(2, 0, 3, 1)
    image_1HW = pixels_1HW.reshape(1, 256 * 3, -1).to(torch.uint8)

    assert torch.equal(sharpen(image_1HW, factor=0.0), v2.functional.adjust_sharpness(image_1HW, 0.0))
