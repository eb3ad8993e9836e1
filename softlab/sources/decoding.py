"""Pictures as tensors: one channel for grey ones, three for all others, always 8 bits."""

# Shape letters: C channels (1 grey, 3 RGB), H height, W width.

from io import BytesIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from softlab.errors import UnreadableSample


def decode_image(data: bytes, *, key: str, place: str) -> Tensor:
    """The first frame of an encoded image as uint8 CHW, as stored: EXIF orientation is not applied.

    Raises UnreadableSample.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            return image_to_tensor(image)
    except Exception as error:  # damaged bytes make Pillow's decoders raise nearly any class
        raise unreadable(error, key=key, place=place) from error


def image_to_tensor(image: Image.Image) -> Tensor:
    """Modes L, 1 and I;16 become one channel, the others RGB; 16 bits are cut to their upper 8.

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


def unreadable(error: Exception, *, key: str, place: str) -> UnreadableSample:
    """The error to raise from `error`, which tells what is wrong with the sample."""
    return UnreadableSample(
        f"{place}: sample {key!r} can't be read: {_describe(error)}. "
        f"Repair or remove it, or leave such samples out with --source-skip-unreadable."
    )


def reason_of(error: UnreadableSample) -> str:
    """What is wrong, without the place, which differs between machines."""
    cause = error.__cause__
    return _describe(cause) if isinstance(cause, Exception) else str(error)


def _describe(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text holds the address of a buffer
        return "not an image that Pillow can identify"
    if isinstance(error, OSError) and error.strerror:  # without the file name, which the place gives
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__
