"""Views of JPEGs that are scaled: the same draws as of decoded images, and nearly the same pixels."""

# Shape letters: C channels, H height, W width.

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.modalities.images.decoding import ImageDecoding
from softlab.modalities.images.modality import Images
from softlab.modalities.images.views.first_transform import apply_transform
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.transforms import build_transform, parse_transform
from softlab.modalities.views import View, record_views
from tests.modalities.images.photos import jpeg

PHOTOS = [jpeg(208, 160, seed=seed) for seed in range(3)]
WHOLE, SCALED = Images(), Images(ImageDecoding(jpeg="scaled"))


def views(modality: Images, *transforms: str, **options: Any) -> list[View]:
    record = record_views(ViewRecipe(transforms=transforms, **options), num_views=4, digest_every=0)
    replay = modality.replay(record, num_samples=len(PHOTOS))
    rows = [(index, view) for index in range(len(PHOTOS)) for view in range(4)]
    examples = [modality.decode(data) for data in PHOTOS]
    return replay.views([index for index, _ in rows], [view for _, view in rows], lambda index: examples[index])


def pixels(view: View) -> Tensor:
    assert isinstance(view.example, Tensor)
    return view.example


@pytest.mark.parametrize(
    "transforms",
    [
        ("RandomResizedCrop(32)", "RandomHorizontalFlip()"),
        ("RGB()", "RandomResizedCrop([24, 40], interpolation='bicubic')", "ColorJitter(0.2)"),
        ("Resize(40)", "RandomCrop(32)"),
        ("Resize([30, 40], interpolation='nearest')",),
        ("RandomHorizontalFlip()", "RandomResizedCrop(32)"),
        ("CenterCrop(100)",),
        ("Resize(40, max_size=50)",),
    ],
)
def test_a_view_of_a_scaled_jpeg_shows_what_that_of_the_whole_shows(transforms: tuple[str, ...]) -> None:
    for scaled, whole in zip(views(SCALED, *transforms), views(WHOLE, *transforms), strict=True):
        assert pixels(scaled).shape == pixels(whole).shape
        assert pixels(scaled).stride() == pixels(whole).stride()
        assert float((pixels(scaled).float() - pixels(whole).float()).abs().mean()) < 8


def test_where_nothing_is_shrunk_views_are_equal_to_the_last_bit() -> None:
    transforms = ("RandomResizedCrop(160)", "RandomHorizontalFlip()", "ColorJitter(0.3, 0.3, 0.3)")

    for scaled, whole in zip(views(SCALED, *transforms), views(WHOLE, *transforms), strict=True):
        assert torch.equal(pixels(scaled), pixels(whole))


@pytest.mark.parametrize("transforms", [(), ("RGB()",), ("Resize([30, 40])",)])
def test_scaled_jpegs_are_mixed(transforms: tuple[str, ...]) -> None:
    for scaled, whole in zip(views(SCALED, *transforms, mixup=1.0), views(WHOLE, *transforms, mixup=1.0), strict=True):
        assert (scaled.partner, scaled.weight) == (whole.partner, whole.weight)
        assert float((pixels(scaled).float() - pixels(whole).float()).abs().mean()) < 4


def test_a_transform_that_can_not_be_applied_is_told_with_the_size_of_the_image() -> None:
    with pytest.raises(InvalidOption, match=r"RandomCrop.* can't be applied to an image of 3x160x208 .*Change its"):
        views(SCALED, "RandomCrop(500)")


@pytest.mark.parametrize("interpolation", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", ["32", "[24, 40]", "160", "300"])
def test_a_crop_of_a_decoded_image_is_torchvisions_wherever_its_colours_lie_in_memory(
    size: str, interpolation: str
) -> None:
    flip = RandomState("RandomHorizontalFlip()")
    for antialias, seed in product((True, False), range(12)):
        crop = RandomState(f"RandomResizedCrop({size}, interpolation={interpolation!r}, antialias={antialias})")
        lying = WHOLE.decode(PHOTOS[seed % len(PHOTOS)])
        assert isinstance(lying, Tensor)
        in_order = lying.contiguous()
        assert lying.stride() != in_order.stride()

        for transform in (crop, flip):
            expected = transform.draw(in_order, seed=seed)
            found = transform.apply(lying, seed=seed)
            assert torch.equal(found, expected)
            assert found.stride() == expected.contiguous().stride()


class RandomState:
    """A transform that draws from a seed."""

    def __init__(self, text: str) -> None:
        self.transform = build_transform(parse_transform(text))

    def draw(self, image_CHW: Tensor, *, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return self.transform(image_CHW)

    def apply(self, image_CHW: Tensor, *, seed: int) -> Tensor:
        torch.manual_seed(seed)
        found = apply_transform(self.transform, image_CHW)
        assert isinstance(found, Tensor)
        return found
