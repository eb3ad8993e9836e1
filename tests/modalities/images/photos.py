"""JPEGs that look like photographs: smooth, with some grain, in any size and sampling."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

TURNED = 6


def photo(width: int, height: int, *, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    rough = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = random.integers(-6, 7, (height, width, 3))
    return Image.fromarray((np.asarray(rough, dtype=np.int64) + grain).clip(0, 255).astype(np.uint8))


def jpeg(width: int, height: int, *, seed: int = 0, mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    photo(width, height, seed=seed).convert(mode).save(file, "JPEG", **{"quality": 90} | options)
    return file.getvalue()


def turned_jpeg(width: int, height: int, *, orientation: int = TURNED) -> bytes:
    """By a quarter, as its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(width, height, exif=exif)
