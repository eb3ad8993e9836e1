"""A call of every transform that views may be made of, random images, and what replays views of them."""

from typing import Any

import torch
from torch import Tensor

from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.views import record_views

# Shape letters: C channels, H height, W width.

CALLS = (
    "AugMix(severity=5)",
    "AutoAugment()",
    "CenterCrop(16)",
    "ColorJitter(0.4, 0.4, 0.4, 0.1)",
    "ElasticTransform(sigma=1.5)",
    "GaussianBlur(3)",
    "Grayscale(3)",
    "Pad([1, 2], fill=255)",
    "RGB()",
    "RandAugment()",
    "RandomAdjustSharpness(2)",
    "RandomAffine(20, translate=[0.1, 0.2], fill=128)",
    "RandomApply([RandomInvert(1.0), RandomHorizontalFlip()], p=0.7)",
    "RandomAutocontrast()",
    "RandomChannelPermutation()",
    "RandomChoice([RandomInvert(1.0), RandomRotation(90)], p=[0.2, 0.8])",
    "RandomCrop(16, padding=2)",
    "RandomEqualize()",
    "RandomErasing(1.0, value=[7])",
    "RandomGrayscale(0.5)",
    "RandomHorizontalFlip()",
    "RandomInvert()",
    "RandomOrder([RandomSolarize(100), GaussianBlur(3)])",
    "RandomPerspective()",
    "RandomPhotometricDistort()",
    "RandomPosterize(2)",
    "RandomResizedCrop([12, 14])",
    "RandomRotation([-30, 30], expand=True)",
    "RandomSolarize(threshold=100)",
    "RandomVerticalFlip()",
    "Resize(12)",
    "TrivialAugmentWide()",
)
"""They take images of `random_image`."""


def random_image(channels: int = 3, *, seed: int = 0, height: int = 20, width: int = 24) -> Tensor:
    """uint8 [C, H, W] that only the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8, generator=generator)


def make_replay(*transforms: str, num_samples: int = 10, **mixing: Any) -> ImageReplay:
    """Of a recipe with those transforms, and other options of it."""
    recipe = ViewRecipe(transforms=transforms, **mixing)
    return ImageReplay(record_views(recipe, num_views=1, digest_every=0), num_samples=num_samples)
