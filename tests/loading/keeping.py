"""Images that are kept by tests, also by processes that start with little else."""

# Shape letters: C channels, H height, W width.

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softlab.loading.kept_images import KeptImages
from softlab.store.cache import CacheOptions

MIB = 1 / 1024
"""GiB."""


def image(seed: int, *, side: int = 32) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, side, side), dtype=np.uint8))


def content(seed: int) -> bytes:
    return seed.to_bytes(16, "little")


def keeper(folder: Path, *, gib: float = 8 * MIB, kept_as: str = "as they are") -> KeptImages:
    return KeptImages(CacheOptions(dir=folder, images_gib=gib), kept_as)
