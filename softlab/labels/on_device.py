"""Copies to a device that don't make this process wait for the device's work."""

# Shape letters: N numbers.

from functools import lru_cache

import torch
from torch import Tensor


def copy_to(device: torch.device, tensor: Tensor) -> Tensor:
    """The same on a device: to CUDA through page-locked memory, as any other copy waits for all that the GPU is at. The
    tensor itself, where it is there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@lru_cache(maxsize=32)
def constant(numbers: tuple[float, ...], device: torch.device, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers that stay the same in a run, [N], for reading alone: they are copied once."""
    with torch.inference_mode(False):  # else what is made first in inference mode couldn't be learnt with later
        return copy_to(device, torch.tensor(numbers, dtype=dtype))
