"""torchvision's RandAugment and its kin with the very same pixels, in a third of the time for small images.

Two kinds of their operations take most of it. One moves pixels and changes none (shear, translate, rotate with nearest
neighbours): torchvision is asked once from where each pixel comes, and from then on that is looked up. The other
sharpens, by a convolution whose sums are whole numbers: they are added as such.
"""

# Shape letters: C channels (1 grey, 3 RGB), H height, W width, P pixels (H * W).

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
NEAREST = (InterpolationMode.NEAREST, "nearest")
MOST_PIXELS = 1 << 18
"""Of an image whose moves are kept: 1 MiB each. float32, in which torchvision moves, holds such numbers exactly."""

MOVES_KEPT = 32
"""RandAugment has ten at one size."""


class _Faster(v2.Transform):  # type: ignore[misc]
    """Comes before a transform of torchvision in a class's bases; images that it has no short cut for go on to that."""

    fill: Any

    def _apply_image_or_video_transform(
        self, image: Tensor, transform_id: str, magnitude: float, interpolation: InterpolationMode | str, fill: Any
    ) -> Tensor:
        if _is_image(image):
            is_small = image.shape[1] * image.shape[2] <= MOST_PIXELS
            if transform_id in MOVES and interpolation in NEAREST and self.fill is None and is_small:
                return move(image, transform_id, magnitude)
            if transform_id == "Sharpness" and min(image.shape[1:]) > 2 and magnitude >= -1:
                return sharpen(image, factor=1.0 + magnitude)
        changed: Tensor = super()._apply_image_or_video_transform(
            image, transform_id, magnitude, interpolation=interpolation, fill=fill
        )
        return changed


class AutoAugment(_Faster, v2.AutoAugment):  # type: ignore[misc]
    """With torchvision's arguments and pixels."""


class AugMix(_Faster, v2.AugMix):  # type: ignore[misc]
    """With torchvision's arguments and pixels."""


class RandAugment(_Faster, v2.RandAugment):  # type: ignore[misc]
    """With torchvision's arguments and pixels."""


class TrivialAugmentWide(_Faster, v2.TrivialAugmentWide):  # type: ignore[misc]
    """With torchvision's arguments and pixels."""


def _is_image(image: Tensor) -> bool:
    is_uint8 = isinstance(image, Tensor) and image.dtype == torch.uint8 and image.device.type == "cpu"
    return is_uint8 and image.ndim == 3 and image.shape[0] in (1, 3) and image.numel() > 0


def move(image_CHW: Tensor, transform_id: str, magnitude: float) -> Tensor:
    """Its pixels elsewhere; what comes from outside is black."""
    from_P = _origins(transform_id, magnitude, *image_CHW.shape[1:])
    moved_CHW = torch.empty(image_CHW.shape, dtype=torch.uint8)
    for source_HW, moved_HW in zip(image_CHW, moved_CHW, strict=True):  # a channel at a time takes a third of the time
        pixels_P = torch.cat([source_HW.new_zeros(1), source_HW.flatten()])
        torch.index_select(pixels_P, 0, from_P, out=moved_HW.view(-1))
    return moved_CHW


@lru_cache(maxsize=MOVES_KEPT)
def _origins(transform_id: str, magnitude: float, height: int, width: int) -> Tensor:
    """int32 [P]: of each pixel 1 + the place of the one that it comes from, 0 for one from outside. torchvision itself
    moves the numbers of the pixels."""
    numbers_1HW = torch.arange(1, height * width + 1, dtype=torch.float32).reshape(1, height, width)
    theirs = v2.RandAugment()
    moved_1HW: Tensor = theirs._apply_image_or_video_transform(
        numbers_1HW, transform_id, magnitude, interpolation="nearest", fill=theirs._fill
    )
    return moved_1HW.flatten().to(torch.int32)


def sharpen(image_CHW: Tensor, *, factor: float) -> Tensor:
    """As `adjust_sharpness`: blended with the mean over 3 x 3 pixels, the middle one counted five times, rounded.

    13 times the mean is a whole number, so that the mean is never nearer than 1/26 to where rounding changes: however
    it is summed in float32, it is rounded to the same.
    """
    output_CHW = image_CHW.to(torch.float32, copy=True)
    inner_CHW = output_CHW[:, 1:-1, 1:-1]
    columns = output_CHW[:, :-2] + output_CHW[:, 1:-1] + output_CHW[:, 2:]
    mean_CHW = columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:]
    mean_CHW.add_(inner_CHW, alpha=4).mul_(1 / 13).round_()
    inner_CHW.add_(mean_CHW.sub_(inner_CHW), alpha=1.0 - factor)
    return output_CHW.clamp_(0, 255).to(torch.uint8)
