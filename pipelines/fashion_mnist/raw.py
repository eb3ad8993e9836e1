"""Read the four raw Fashion-MNIST files, from a folder that holds them or through torchvision's download."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import FashionMNIST

CLASS_NAMES = tuple(FashionMNIST.classes)
FILE_STEMS = {"train": "train", "test": "t10k"}


def read_split(raw: Path | None, *, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [N, 28, 28] and labels [N] of `train` (60,000) or `test` (10,000), in the original order."""
    if raw is None:
        data = FashionMNIST(root="runs/download", train=split == "train", download=True)
        return data.data.numpy(), data.targets.numpy()
    images = _read_idx(raw / f"{FILE_STEMS[split]}-images-idx3-ubyte.gz", header_bytes=16)
    labels = _read_idx(raw / f"{FILE_STEMS[split]}-labels-idx1-ubyte.gz", header_bytes=8)
    return images.reshape(-1, 28, 28), labels.astype(np.int64)


def validation_split(num_samples: int, *, held_out: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sample numbers for training and for validation: one fixed permutation, its last `held_out` for validation."""
    order = np.random.Generator(np.random.Philox(key=0)).permutation(num_samples)
    return np.sort(order[:-held_out]), np.sort(order[-held_out:])


def _read_idx(path: Path, *, header_bytes: int) -> NDArray[np.uint8]:
    with gzip.open(path, "rb") as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=header_bytes)
