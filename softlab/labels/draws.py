"""Random numbers that are a function of what they are for, the same on any machine, device and in any order."""

# Shape letters: R rows.

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_FIRST_FACTOR, _SECOND_FACTOR = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def uniforms(seed: int, *, view: int, samples_R: Tensor, units_R: Tensor) -> Tensor:
    """float64 [R, 2] in [0, 1), of 53 bits each, on the device of the indices, which isn't waited for: two numbers for
    each unit of each sample of a view. Both are int64; Apple's GPUs have no float64.

    A hash of all five, by the finalizer of SplitMix64 (Steele, Lea, Flood 2014, figure 17) after each word.
    """
    state_R = torch.zeros_like(samples_R)
    for word in (_signed(seed), _signed(view), samples_R, units_R):
        state_R = _mixed(state_R ^ word)
    state_R2 = _mixed(state_R[:, None] ^ torch.arange(2, device=state_R.device))
    return _shifted(state_R2, 11).double() * 2.0**-53


def _mixed(words: Tensor) -> Tensor:
    words = words + _signed(_GAMMA)
    words = (words ^ _shifted(words, 30)) * _signed(_FIRST_FACTOR)
    words = (words ^ _shifted(words, 27)) * _signed(_SECOND_FACTOR)
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, count: int) -> Tensor:
    """To the right, as of unsigned integers: zeros come in."""
    return words >> count & (1 << (64 - count)) - 1


def _signed(word: int) -> int:
    """The int64 of the same 64 bits; sums and products of int64 wrap around, and so have the bits of unsigned ones."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)
