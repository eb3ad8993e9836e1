"""MixUp and CutMix whose partner, share and box depend on (seed, view, sample) alone, never on who shares a batch."""

# Shape letters: C channels, H height, W width.

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.manifest import MixingRecord

WEIGHT_STEPS = 1 << 16
"""A blend is computed in whole numbers, so that no machine rounds it otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """What one view is mixed with."""

    partner: int
    """Sample number."""

    weight: float
    """Share of the view itself, 0 to 1; the partner has the rest. Of a cut one before its box meets the edges."""

    centre: tuple[float, float] | None
    """Of the box cut out, as shares of height and width; None where the whole is blended."""


def draw_mix(mixing: MixingRecord, key: int, *, sample: int, num_samples: int) -> Mix | None:
    """What view `key` (128 bits that stand for seed, view and sample) is mixed with; None if it is not.

    MixUp: Zhang, Cisse, Dauphin, Lopez-Paz (2018), equation 1. CutMix: Yun et al. (2019), equations 1 and 2. The
    numbers come from numpy's RandomState, whose streams numpy has promised never to change.
    """
    random = np.random.RandomState(np.random.Philox(key=key))
    is_mixed, is_cut = random.random_sample() < mixing.share, random.random_sample() < mixing.cutmix_share
    if not is_mixed:
        return None
    if mixing.mixup is None or mixing.cutmix is None:
        is_cut = mixing.mixup is None
    alpha = mixing.cutmix if is_cut else mixing.mixup
    assert alpha is not None, "a recipe that mixes names an alpha"
    partner = int(random.random_sample() * (num_samples - 1))
    weight = float(random.beta(alpha, alpha))
    centre = (float(random.random_sample()), float(random.random_sample()))
    return Mix(partner=partner + (partner >= sample), weight=weight, centre=centre if is_cut else None)


def mix_images(image_CHW: Tensor, partner_CHW: Tensor, mix: Mix) -> tuple[Tensor, float]:
    """The mixed uint8 image, and the exact share that is left of the first. Raises InvalidOption for two sizes."""
    if image_CHW.shape != partner_CHW.shape:
        raise InvalidOption(
            f"MixUp and CutMix need images of one size and kind, but two of them are {_size(image_CHW)} and "
            f"{_size(partner_CHW)} (channels x height x width). End the transforms with RandomResizedCrop(SIZE) or "
            f"Resize([HEIGHT, WIDTH]), and start them with RGB() where some are grey."
        )
    if mix.centre is None:
        return _blend(image_CHW, partner_CHW, weight=mix.weight)
    return _cut(image_CHW, partner_CHW, weight=mix.weight, centre=mix.centre)


def _blend(image_CHW: Tensor, partner_CHW: Tensor, *, weight: float) -> tuple[Tensor, float]:
    steps = round(weight * WEIGHT_STEPS)
    mixed_CHW = image_CHW.int() * steps + partner_CHW.int() * (WEIGHT_STEPS - steps)
    return ((mixed_CHW + WEIGHT_STEPS // 2) // WEIGHT_STEPS).to(torch.uint8), steps / WEIGHT_STEPS


def _cut(image_CHW: Tensor, partner_CHW: Tensor, *, weight: float, centre: tuple[float, float]) -> tuple[Tensor, float]:
    height, width = image_CHW.shape[1:]
    side = math.sqrt(1 - weight) / 2
    top, bottom = _span(centre[0] * height, side * height, height)
    left, right = _span(centre[1] * width, side * width, width)
    mixed_CHW = image_CHW.clone()
    mixed_CHW[:, top:bottom, left:right] = partner_CHW[:, top:bottom, left:right]
    return mixed_CHW, 1 - (bottom - top) * (right - left) / (height * width)


def _span(centre: float, half: float, length: int) -> tuple[int, int]:
    """Whole pixels, inside the image."""
    return max(int(centre) - int(half), 0), min(int(centre) + int(half), length)


def _size(image_CHW: Tensor) -> str:
    return "x".join(map(str, image_CHW.shape))
