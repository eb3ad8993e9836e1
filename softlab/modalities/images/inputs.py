"""How a model wants its images, each its own way: size, channels and normalisation."""

# Shape letters: B images in a batch, C channels (1 grey, 3 RGB), H height, W width.

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from softlab.errors import InvalidOption
from softlab.modalities.images.decoding import MAX_PIXELS, Background, Jpeg, Wanted
from softlab.modalities.images.example import ImageExample, pixels_of, resize
from softlab.modalities.inputs import RECORDED_ELSEWHERE, RECORDED_IF_OTHER

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

VALUES_TOGETHER = 1 << 19
"""2 MiB of float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """How a model wants its images: size, channels and normalisation."""

    modality: ClassVar[str] = "images"

    size: tuple[int, ...] = ()
    """Height, width; default: the image's own."""

    resize: int | None = None
    """Length of the shorter side before the centre is cut out; default: resize straight to the size."""

    interpolation: Interpolation = field(default="bilinear", metadata={RECORDED_IF_OTHER: True})
    """How pixels are found when an image is resized."""

    antialias: bool = field(default=True, metadata={RECORDED_IF_OTHER: True})
    """Smooth an image that gets smaller; bilinear and bicubic alone have the choice."""

    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for RGB; default: 3 where some images are RGB, else their own."""

    mean: tuple[float, ...] = (0.5,)
    """Mean of pixels in 0..1.

    It is subtracted; one value, or one a channel."""

    std: tuple[float, ...] = (0.5,)
    """Their standard deviation.

    It divides them then; one value, or one a channel."""

    background: Background | None = field(default=None, metadata={RECORDED_ELSEWHERE: True})
    """What transparent images are laid on.

    Default: white; of a store's images what its teacher saw."""

    value_range: tuple[float, ...] = field(default=(), metadata={RECORDED_ELSEWHERE: True})
    """Of grey images with more than 8 bits, the values that become black and white.

    Such as [0, 4095] where 12 bits are in use; what lies outside is clipped. Default: all 16 bits; images of 32 bits
    and floats need it."""

    jpeg: Jpeg | None = field(default=None, metadata={RECORDED_ELSEWHERE: True})
    """Whether JPEGs are decoded whole, or scaled: only the lines that a view needs, no larger than it needs them.

    Scaled is several times as fast, and has other pixels. Default: whole; of a store's images as its teacher saw
    them."""

    shrink: int | None = field(default=None, metadata={RECORDED_ELSEWHERE: True})
    """Pixels to which the shorter side of an image is shrunk when it is decoded, before all else.

    A smaller image stays as it is. Default: not at all; of a store's images as its teacher saw them."""

    max_pixels: int = field(default=MAX_PIXELS, metadata={RECORDED_ELSEWHERE: True})
    """Larger images are refused, as they may be made to fill the memory."""

    def __post_init__(self) -> None:
        if len(self.size) not in (0, 2) or any(side < 1 for side in self.size):
            raise InvalidOption(
                f"size: {self.size} isn't a height and a width. Give both, as in `input.size = [224, 224]`."
            )
        # A shorter resized image would be padded with black.
        if self.resize is not None and self.resize < max(self.size, default=1):
            raise InvalidOption(
                f"resize: the shorter side, {self.resize}, doesn't fill the size {self.size}. "
                f"Give at least {max(self.size, default=1)}."
            )
        if not self.antialias and self.interpolation not in ("bilinear", "bicubic"):
            raise InvalidOption(
                f"antialias: {self.interpolation} has no such choice. Leave `input.antialias` out, or say "
                f"`input.interpolation = bilinear`."
            )
        if self.channels not in (None, 1, 3):
            raise InvalidOption(f"channels: {self.channels} isn't supported. Give 1 (grey) or 3 (RGB).")
        if not all(isfinite(value) for value in self.mean):
            raise InvalidOption(f"mean: {self.mean} isn't finite. Give numbers between 0 and 1.")
        if not all(isfinite(value) and value > 0 for value in self.std):
            raise InvalidOption(f"std: {self.std} can't divide pixels. Give numbers above 0.")
        if self.value_range and not (
            len(self.value_range) == 2
            and all(map(isfinite, self.value_range))
            and self.value_range[0] < self.value_range[1]
        ):
            raise InvalidOption(
                f"value_range: {self.value_range} isn't a darkest and a brightest value. Give both, as in "
                f"`input.value_range = [0, 4095]`."
            )
        if self.jpeg not in (None, "whole", "scaled"):
            raise InvalidOption(f"jpeg: {self.jpeg!r} isn't a way to decode. Give `input.jpeg` whole or scaled.")
        if self.shrink is not None and self.shrink < 1:
            raise InvalidOption(f"shrink: {self.shrink} leaves no pixel. Give `input.shrink` 1 or more.")
        if self.max_pixels < 1:
            raise InvalidOption(f"max_pixels: {self.max_pixels} lets no image pass. Give 1 or more.")
        _check_units(self.mean, self.std)
        _check_lengths(self, num_channels=self.channels)

    @property
    def wanted_decoding(self) -> Wanted:
        return Wanted(
            background=self.background,
            value_range=self.value_range,
            jpeg=self.jpeg,
            shrink=self.shrink,
            max_pixels=self.max_pixels,
        )


def make_input(examples: Sequence[ImageExample], options: ImageInput) -> Tensor:
    """float32 images_BCHW from uint8 images_CHW, or what becomes these; an image's result doesn't depend on the others
    of the batch."""
    images = [_decoded(example, options) for example in examples]
    same_shape = len({image.shape for image in images}) == 1
    groups = [torch.stack(list(images))] if same_shape else [image.unsqueeze(0) for image in images]
    fitted = [_fit_channels(_fit_size(group, options), options.channels) for group in groups]
    _check_same_shape(fitted)
    _check_lengths(options, num_channels=fitted[0].shape[1])
    return _normalised(fitted[0] if len(fitted) == 1 else torch.cat(fitted), options)


def _normalised(images_BCHW: Tensor, options: ImageInput) -> Tensor:
    """As torchvision's `to_dtype` and `normalize` do it, some images at a time, which stay in the processor's cache.

    numpy asks the system for huge pages, torch doesn't. Of 64 images of 224 x 224 both together take 0.12 ms an image
    in place of 0.44.
    """
    normalised_BCHW = torch.from_numpy(np.empty(images_BCHW.shape, dtype=np.float32))
    together = max(VALUES_TOGETHER // images_BCHW.shape[1:].numel(), 1)
    chunks = zip(torch.split(images_BCHW, together), torch.split(normalised_BCHW, together), strict=True)
    for pixels, normalised in chunks:
        normalised.copy_(pixels).mul_(1.0 / 255)
        functional.normalize(normalised, list(options.mean), list(options.std), inplace=True)
    return normalised_BCHW


def _decoded(example: ImageExample, options: ImageInput) -> Tensor:
    """A JPEG is decoded no larger than it is asked for."""
    if isinstance(example, Tensor):
        return example.contiguous()
    size = list(options.size) if options.resize is None else [options.resize]
    if not size:
        return pixels_of(example)
    return resize(example, size, interpolation=_interpolation(options), antialias=options.antialias)


def _fit_size(images_BCHW: Tensor, options: ImageInput) -> Tensor:
    if options.resize is not None:
        images_BCHW = _resized(images_BCHW, [options.resize], options)
        return functional.center_crop(images_BCHW, list(options.size)) if options.size else images_BCHW
    return _resized(images_BCHW, list(options.size), options) if options.size else images_BCHW


def _resized(images_BCHW: Tensor, size: list[int], options: ImageInput) -> Tensor:
    """To a height and a width, or the length of the shorter side."""
    how = _interpolation(options)
    if how is not InterpolationMode.LANCZOS:
        resized: Tensor = functional.resize(images_BCHW, size, interpolation=how, antialias=options.antialias)
        return resized
    # For tensors there is no such kernel, so Pillow's is taken, an image at a time.
    images = [
        functional.resize(functional.to_pil_image(image_CHW), size, interpolation=how) for image_CHW in images_BCHW
    ]
    return torch.stack([functional.pil_to_tensor(image) for image in images])


def _interpolation(options: ImageInput) -> InterpolationMode:
    """torch's own nearest takes the pixel at a corner, Pillow's the one in the middle."""
    return InterpolationMode("nearest-exact" if options.interpolation == "nearest" else options.interpolation)


def _fit_channels(images_BCHW: Tensor, channels: Literal[1, 3] | None) -> Tensor:
    if channels is None or channels == images_BCHW.shape[1]:
        return images_BCHW
    change = functional.grayscale_to_rgb if channels == 3 else functional.rgb_to_grayscale
    changed: Tensor = change(images_BCHW)
    return changed


def _check_same_shape(fitted: list[Tensor]) -> None:
    shapes = sorted({tuple(images_BCHW.shape[1:]) for images_BCHW in fitted})
    if len({shape[0] for shape in shapes}) > 1:
        raise InvalidOption("The images are grey and RGB. Make them alike with `input.channels = 3`, or 1.")
    if len(shapes) > 1:
        raise InvalidOption(
            f"The images have different sizes, e.g. {_text(shapes[0])} and {_text(shapes[-1])} (height x width). "
            f"Make them alike with `input.size`, a height and a width."
        )


def _text(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[2]}"


def _check_units(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raises InvalidOption for a mean and std of pixels in 0..255, with those of the same pixels in 0..1."""
    is_mean_wrong = any(not 0 <= value <= 1 for value in mean)
    if not is_mean_wrong and all(value <= 1 for value in std):
        return
    if any(value < 0 for value in mean):
        raise InvalidOption(f"mean: {mean} is below 0, but pixels lie in 0..1. Give numbers between 0 and 1.")
    # Beside a mean in 0..255 a std of 1 is in the same units: it leaves them as they are. One below 1 is the default.
    divided = {"input.mean": mean} if is_mean_wrong else {}
    divided |= {"input.std": std} if max(std) > 1 or (is_mean_wrong and min(std) == 1) else {}
    found = " and ".join(f"{name.removeprefix('input.')} {_listed(values)}" for name, values in divided.items())
    given = " and ".join(f"`{name} = {_listed([value / 255 for value in values])}`" for name, values in divided.items())
    raise InvalidOption(
        f"{found}: in units of pixels from 0 to 255, but pixels are scaled to 0..1 before. Divide by 255: give {given}."
    )


def _listed(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"


def _check_lengths(options: ImageInput, *, num_channels: int | None) -> None:
    allowed = (1, 3) if num_channels is None else (1, num_channels)
    for option, values in [("mean", options.mean), ("std", options.std)]:
        if len(values) not in allowed:
            raise InvalidOption(
                f"{option}: {len(values)} values for images of {num_channels or '1 or 3'} channels. "
                f"Give one value, or one a channel, as `input.{option}`."
            )
