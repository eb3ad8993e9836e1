"""Images as tensors: one channel for grey ones, three for all others, always 8 bits."""

# Shape letters: C channels (1 grey, 3 RGB), H height, W width.

from io import BytesIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from softlab.sources.source import Raw


def decode_image(raw: Raw) -> Tensor:
    """uint8 CHW: the first frame of an encoded image, as stored (EXIF orientation is not applied), or the pixels of a
    uint8 array [C, H, W]. Raises whatever Pillow's decoders raise for damaged bytes, ValueError for anything else."""
    if isinstance(raw, np.ndarray):
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[0] not in (1, 3):
            raise ValueError(f"an array of {raw.dtype} {list(raw.shape)} isn't an image; expected uint8 [1 or 3, H, W]")
        return torch.from_numpy(raw)
    if isinstance(raw, str):
        raise ValueError("a text isn't an image")
    try:
        with Image.open(BytesIO(raw)) as image:
            return image_to_tensor(image)
    except UnidentifiedImageError as error:  # its own text holds the address of a buffer
        raise ValueError("not an image that Pillow can identify") from error


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
