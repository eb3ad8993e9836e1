"""Random numbers that are a function of what they are for, the same on any machine and in any order."""

# Shape letters: R rows.

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def uniforms(seed: int, *, view: int, samples_R: Tensor, units_R: Tensor) -> Tensor:
    """float64 [R, 2] on the CPU, in [0, 1), of 53 bits each: two numbers for each unit of each sample of a view.

    A hash of all five, by the finalizer of SplitMix64 (Steele, Lea, Flood 2014, figure 17) after each word.
    """
    samples, units = samples_R.numpy().astype(np.uint64), units_R.numpy().astype(np.uint64)
    words: list[NDArray[Any]] = [*(np.array([each & _MASK], np.uint64) for each in (seed, view)), samples, units]
    state_R = np.zeros(len(samples), np.uint64)
    for word in words:
        state_R = _mixed(state_R ^ word)
    state_R2 = _mixed(state_R[:, None] ^ np.arange(2, dtype=np.uint64))
    return torch.from_numpy((state_R2 >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words + _GAMMA  # of arrays, so that numpy wraps around without a warning
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)
