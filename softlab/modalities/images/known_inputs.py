"""How published models want their images: what torchvision and timm say of the weights they offer."""

from math import floor
from typing import cast, get_args

import torchvision.models

from softlab.modalities.images.inputs import ImageInput, Interpolation


def known_input(model: str) -> ImageInput | None:
    """Of `torchvision:NAME` with its default weights, or of `timm:NAME` with its first ones; None of other models."""
    origin, _, name = model.partition(":")
    if origin == "torchvision" and name in torchvision.models.list_models():
        return _of_torchvision(name)
    return _of_timm(name) if origin == "timm" else None


def _of_torchvision(name: str) -> ImageInput | None:
    weights = list(torchvision.models.get_model_weights(name))
    if not weights:
        return None
    preset = weights[-1].transforms()
    if not hasattr(preset, "crop_size"):  # of detection, for example, which takes images of any size
        return None
    return ImageInput(
        size=(preset.crop_size[0],) * 2,
        resize=max(preset.resize_size[0], preset.crop_size[0]),
        channels=3,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=_interpolation(preset.interpolation.value),
    )


def _of_timm(name: str) -> ImageInput | None:
    try:
        import timm
    except ImportError:
        return None  # building the model says what to install
    if not timm.is_model(name):
        return None
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return None
    channels, height, width = config.input_size
    if channels != 3:
        return None
    return ImageInput(
        size=(height, width),
        resize=floor(min(height, width) / (config.crop_pct or 1)),
        channels=3,
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=_interpolation(config.interpolation),
    )


def _interpolation(name: str) -> Interpolation:
    """Bilinear where nothing is said, or something that there isn't here."""
    return cast(Interpolation, name) if name in get_args(Interpolation) else "bilinear"
