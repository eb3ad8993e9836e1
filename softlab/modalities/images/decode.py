"""Images as tensors: one channel for grey ones, three for all others, always 8 bits."""

# Shape letters: C channels (1 grey, 3 RGB), H height, W width.

import os
import threading
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from softlab.modalities.images.decoding import ImageDecoding
from softlab.sources.source import Raw

AS_TODAY = ImageDecoding()
LEVELS = {"white": 255, "grey": 128, "black": 0}
ORIENTATION = 0x0112
"""The entry of EXIF."""

_no_limit = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_no_limit=threading.Lock()))


def decode_image(raw: Raw, decoding: ImageDecoding = AS_TODAY) -> Tensor:
    """uint8 CHW: the first frame of an encoded image, turned as its EXIF orientation says and composited on the
    background, or the pixels of a uint8 array [C, H, W]. Colours may lie in memory as [H, W, C]. Raises whatever
    Pillow's decoders raise for damaged bytes, ValueError for anything else."""
    if isinstance(raw, np.ndarray):
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[0] not in (1, 3):
            raise ValueError(f"an array of {raw.dtype} {list(raw.shape)} isn't an image; expected uint8 [1 or 3, H, W]")
        return torch.from_numpy(raw)
    if isinstance(raw, str | tuple):
        raise ValueError("a text isn't an image")
    with open_image(raw, max_pixels=decoding.max_pixels) as image:
        return image_to_tensor(image) if decoding.rules == 1 else _decode(image, decoding)


def open_image(raw: bytes, *, max_pixels: int) -> Image.Image:
    """The image, of which only the header was read. Raises ValueError for what Pillow can't identify, and for one of
    more pixels than that."""
    try:
        with _no_limit:  # Pillow's own limit is global, and raising it for good would not be ours to do
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(BytesIO(raw))
            finally:
                Image.MAX_IMAGE_PIXELS = before
    except UnidentifiedImageError as error:  # its own text holds the address of a buffer
        raise ValueError("not an image that Pillow can identify") from error
    check_size(image.width, image.height, max_pixels=max_pixels)
    return image


def check_size(width: int, height: int, *, max_pixels: int) -> None:
    """Raises ValueError for an image of more pixels than that."""
    if width * height > max_pixels:
        raise ValueError(
            f"{width:,} x {height:,} pixels are more than {max_pixels:,}, as a file has that is made to fill the "
            f"memory (if it is meant, raise `input.max_pixels`)"
        )


def is_transparent(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def is_wide(image: Image.Image) -> bool:
    """Whether it is grey with more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def is_wide_colour(image: Image.Image) -> bool:
    """Whether its file has 16 bits a colour, of which Pillow reads the upper 8; known before it is loaded."""
    tiles = getattr(image, "tile", [])
    return not is_wide(image) and any(";16" in str(tile[-1]) for tile in tiles)


def is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "La") or is_wide(image)


def orientation_of(image: Image.Image) -> int:
    """Of EXIF, 1 to 8; 1, as it lies, also where EXIF is damaged."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever Pillow runs into with bytes that aren't EXIF
        return 1
    return found if found in range(1, 9) else 1


def _decode(image: Image.Image, decoding: ImageDecoding) -> Tensor:
    if decoding.value_range and is_wide_colour(image):
        raise ValueError("of 16 bits a colour Pillow reads the upper 8, so that `input.value_range` can't be applied")
    image.load()
    if orientation_of(image) != 1:
        image = ImageOps.exif_transpose(image)
    if is_wide(image):
        return torch.from_numpy(_eight_bits(np.asarray(image), image.mode, decoding.value_range)[None])
    if is_transparent(image):
        return _composited(image, LEVELS[decoding.background])
    if image.mode in ("L", "1"):
        return torch.from_numpy(np.array(image.convert("L"))[None])
    colour = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    return torch.from_numpy(np.array(colour)).permute(2, 0, 1)  # to put them in order would take a fifth of the time


def _eight_bits(values_HW: NDArray[np.generic], mode: str, value_range: tuple[float, ...]) -> NDArray[np.uint8]:
    """What lies outside of the range becomes black or white. Without one the upper 8 of 16 bits."""
    if not value_range:
        if mode in ("I", "F"):
            raise ValueError(
                f"pixels of mode {mode} have no fixed range (say which are black and white, such as "
                f"`input.value_range = [0, 1]`)"
            )
        return np.asarray(np.asarray(values_HW, dtype=np.uint16) >> 8, dtype=np.uint8)
    values = np.asarray(values_HW, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("some pixels are NaN")
    low, high = value_range
    return np.asarray(np.rint((values.clip(low, high) - low) * 255 / (high - low)), dtype=np.uint8)


def _composited(image: Image.Image, level: int) -> Tensor:
    """In whole numbers, so that no machine rounds otherwise."""
    mode = "LA" if image.mode in ("1", "L", "LA", "La") else "RGBA"
    pixels_HWC = np.asarray(image.convert(mode), dtype=np.int32)
    colour_HWC, alpha_HW1 = pixels_HWC[..., :-1], pixels_HWC[..., -1:]
    mixed_HWC = (colour_HWC * alpha_HW1 + level * (255 - alpha_HW1) + 127) // 255
    return torch.from_numpy(mixed_HWC.astype(np.uint8).transpose(2, 0, 1).copy())


def image_to_tensor(image: Image.Image) -> Tensor:
    """By rules 1, also for images that torchvision's data sets give. Modes L, 1 and I;16 become one channel, the others
    RGB; 16 bits are cut to their upper 8.

    Raises ValueError for modes I and F, whose numbers have no fixed range.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range; convert it to 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return torch.from_numpy((np.asarray(image) >> 8).astype(np.uint8)[None])
    if image.mode in ("L", "1"):
        return torch.from_numpy(np.array(image.convert("L"))[None])
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when a palette with transparency loses it in one step
    return torch.from_numpy(np.array(image.convert("RGB")).transpose(2, 0, 1).copy())
