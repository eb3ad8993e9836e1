"""What an image is between its bytes and its views: pixels, or a JPEG of which only what is needed will be decoded."""

# Shape letters: C channels (1 grey, 3 RGB), H height, W width.

from blake3 import blake3
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from softlab.modalities.images.decode import check_size, decode_image, open_image, orientation_of
from softlab.modalities.images.decoding import ImageDecoding
from softlab.modalities.images.jpeg import ScaledJpeg, find_jpeg
from softlab.modalities.views import tensor_digest
from softlab.sources.source import Raw

ImageExample = Tensor | ScaledJpeg
"""uint8 [C, H, W], or what becomes that."""


def decode_example(raw: Raw, decoding: ImageDecoding) -> ImageExample:
    """As `decode_image`; with `jpeg = "scaled"` the JPEGs that can be scaled aren't decoded before it is known how much
    of them is needed."""
    jpeg = _as_jpeg(raw, decoding) if decoding.jpeg == "scaled" and isinstance(raw, bytes) else None
    example = decode_image(raw, decoding) if jpeg is None else jpeg
    return example if decoding.shrink is None else shrink(example, decoding.shrink)


def shrink(example: ImageExample, shorter: int) -> Tensor:
    """With a shorter side of so many pixels, smoothed; an image that is no larger stays as it is."""
    height, width = example.shape[1:]
    if min(height, width) <= shorter:
        return pixels_of(example)
    return resize(example, [shorter], interpolation=InterpolationMode.BILINEAR).contiguous()


def resize(
    example: ImageExample, size: list[int], *, interpolation: InterpolationMode, antialias: bool = True
) -> Tensor:
    """To a height and a width, or the length of the shorter side. A JPEG is decoded no larger than needed, and its size
    is then the one that all of it would have had."""
    if isinstance(example, ScaledJpeg):
        height, width = example.shape[1:]
        size = list(size) if len(size) == 2 else size_by_shorter(height, width, size[0])
        example = example.shrunk(*size)
    resized: Tensor = functional.resize(example, size, interpolation=interpolation, antialias=antialias)
    return resized


def size_by_shorter(height: int, width: int, shorter: int) -> list[int]:
    """Height and width that torchvision gives an image whose shorter side gets this length."""
    longer = int(shorter * max(height, width) / min(height, width))
    return [longer, shorter] if width <= height else [shorter, longer]


def pixels_of(example: ImageExample) -> Tensor:
    """All of them, in full size."""
    return example.whole() if isinstance(example, ScaledJpeg) else example


def digest_example(example: ImageExample) -> int:
    """64 bits that stand for a view; of a JPEG that no view has decoded, for its pixels in full and in half size."""
    if isinstance(example, Tensor):
        return tensor_digest(example)
    height, width = example.shape[1:]
    sizes = (example.whole(), example.shrunk(height // 2, width // 2))
    return int.from_bytes(
        blake3(b"".join(tensor_digest(each).to_bytes(8, "little") for each in sizes)).digest(8), "little"
    )


def _as_jpeg(data: bytes, decoding: ImageDecoding) -> ScaledJpeg | None:
    """None for one that is decoded whole. Raises ValueError for one of too many pixels."""
    jpeg = find_jpeg(data)
    if jpeg is None:
        return None
    check_size(jpeg.header.width, jpeg.header.height, max_pixels=decoding.max_pixels)
    if jpeg.header.has_metadata:
        with open_image(data, max_pixels=decoding.max_pixels) as image:
            return jpeg if orientation_of(image) == 1 else None
    return jpeg
