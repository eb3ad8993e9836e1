"""Transforms of images that aren't decoded yet: the first that crops or shrinks one tells how much of it is needed."""

# Shape letters: C channels (always 3 here), H height, W width.

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from softlab.modalities.images.example import ImageExample, resize
from softlab.modalities.images.jpeg import ScaledJpeg
from softlab.modalities.images.views.transforms import Transform

SMOOTH = (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)


def apply_transform(transform: Transform, example: ImageExample) -> ImageExample:
    """RandomResizedCrop and Resize decode what they need, RGB changes nothing, any other needs the whole image. Each
    draws the same numbers as for a decoded image."""
    if isinstance(example, Tensor):
        return _apply_to_pixels(transform, example)
    match transform:
        case v2.RGB():
            return example
        case v2.RandomResizedCrop():
            return _crop(transform, example)
        case v2.Resize(max_size=None):
            size, how = list(transform.size), transform.interpolation
            return resize(example, size, interpolation=how, antialias=transform.antialias).contiguous()
    return transform(example.whole())


def _apply_to_pixels(transform: Transform, image_CHW: Tensor) -> Tensor:
    """To an image as `decode_image` gives it. To cut a smoothed crop out of it as it lies in memory takes half the time
    and gives the same pixels; other transforms get it in order, as some would round otherwise."""
    if isinstance(transform, v2.RandomResizedCrop) and transform.antialias and transform.interpolation in SMOOTH:
        cropped_CHW: Tensor = transform(image_CHW)
        return cropped_CHW.contiguous()
    is_in_order = len(image_CHW) == 1 or image_CHW.stride(0) != 1
    return transform(image_CHW if is_in_order else image_CHW.contiguous())


def _crop(transform: v2.RandomResizedCrop, jpeg: ScaledJpeg) -> Tensor:
    of_its_size_CHW = torch.empty(jpeg.shape, dtype=torch.uint8, device="meta")
    drawn = transform.make_params([of_its_size_CHW])
    box_CHW = jpeg.box(**drawn, target=tuple(transform.size))
    _, height, width = box_CHW.shape
    whole_box = {"top": 0, "left": 0, "height": height, "width": width}
    cropped_CHW: Tensor = transform.transform(box_CHW, whole_box)
    return cropped_CHW.contiguous()
