"""A fixed orthogonal map of vectors, which spreads what a few of their numbers hold over all of them.

    all D numbers times the first signs; Hadamard transform of the first P
    where D > P: all D numbers times the second signs; Hadamard transform of the last P

P is the largest power of two that isn't above D. Without signs of its own the second transform would undo a part of the
first one: both are products of transforms of two numbers, and those of equal places cancel.

Signs are bits of hashes. A transform is made of sums and differences in an order that is settled, and no matrix
product: so the same vectors give the same bits on any machine, whatever stands beside them.
"""

# Shape letters: R vectors, D numbers of a vector, P numbers that are transformed at once.

import math
from functools import lru_cache

import numpy as np
import torch
from blake3 import blake3
from torch import Tensor

SIGNS_OF = (b"softlab rotation 1", b"softlab rotation 2")
"""The texts whose hashes are the signs: FORMAT.md names them, and a store needs them for ever."""


def rotate(vectors_RD: Tensor) -> Tensor:
    """float32 or float64 as given, on the device of the vectors; each keeps its length."""
    width = vectors_RD.shape[1]
    size = _power_within(width)
    first_D, second_D = _signs(width, vectors_RD.dtype, vectors_RD.device)
    turned_RD = vectors_RD * first_D
    turned_RD[:, :size] = _transform(turned_RD[:, :size])
    if size < width:
        turned_RD *= second_D
        turned_RD[:, width - size :] = _transform(turned_RD[:, width - size :])
    return turned_RD


def rotate_back(rotated_RD: Tensor) -> Tensor:
    """What `rotate` was given, but for rounding."""
    width = rotated_RD.shape[1]
    size = _power_within(width)
    first_D, second_D = _signs(width, rotated_RD.dtype, rotated_RD.device)
    turned_RD = rotated_RD.clone()
    if size < width:
        turned_RD[:, width - size :] = _transform(turned_RD[:, width - size :])
        turned_RD *= second_D
    turned_RD[:, :size] = _transform(turned_RD[:, :size])
    return turned_RD.mul_(first_D)


def _power_within(width: int) -> int:
    return 1 << (width.bit_length() - 1)


def _transform(vectors_RP: Tensor) -> Tensor:
    """Each vector times Sylvester's Hadamard matrix / sqrt(P), which is its own inverse.

    The vectors' first numbers are brought together, then the second ones: so each step adds long stretches of memory,
    and takes 0.4 times as long."""
    count, size = vectors_RP.shape
    now_PR = vectors_RP.T.contiguous()
    next_PR, half = torch.empty_like(now_PR), 1
    while half < size:
        pairs, results = (each.view(size // (2 * half), 2, half * count) for each in (now_PR, next_PR))
        torch.add(pairs[:, 0], pairs[:, 1], out=results[:, 0])
        torch.sub(pairs[:, 0], pairs[:, 1], out=results[:, 1])
        now_PR, next_PR, half = next_PR, now_PR, 2 * half
    return now_PR.mul_(1 / math.sqrt(size)).T


@lru_cache(maxsize=16)
def _signs(width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first and the second ones [D]: -1 where the bit of the number's place is 1."""
    first_D, second_D = (_signs_of(text, width).to(device, dtype) for text in SIGNS_OF)
    return first_D, second_D


def _signs_of(text: bytes, width: int) -> Tensor:
    data = np.frombuffer(blake3(text).digest(length=-(-width // 8)), dtype=np.uint8)
    return torch.from_numpy(1 - 2 * np.unpackbits(data, count=width, bitorder="little").astype(np.int8))
