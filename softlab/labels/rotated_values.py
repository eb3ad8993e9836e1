"""The coding `int8_rotated` of vectors, of which the last axis of values is one: hidden states of language models.

| array       | shape            | dtype              |                                                             |
| values      | [R, ..., D]      | int8               | steps of the vector's scale, of what is rotated             |
| scale       | [R, ...]         | float32            | as in the coding int8                                       |
| outliers    | [R, ..., D / 64] | float32            | its largest numbers, cut to 8 significant bits              |
| outlier_ids | [R, ..., D / 64] | uint16 or uint32   | and where they are, ascending                               |

A few numbers of a hidden state are 10 to 100 times as large as the others, so steps that reach as far are too coarse
for all others. Outliers are therefore subtracted first, and what is left is rotated: then all numbers are about alike.

Of the last hidden state of SmolLM2-135M (D = 576, 8,192 tokens of Python's documentation): the KL of its logits in
nats, the angle by which a small student's gradient turns (summed over 3,072 tokens), and compressed bytes a token.

|                                      | KL     | angle | bytes |
| int8                                 | 8.7e-3 | 1.45  | 339   |
| rotated                              | 4.5e-4 | 0.40  | 534   |
| rotated, a scale for each 64 numbers | 2.7e-4 | 0.38  | 571   |
| rotated, 4 outliers                  | 1.6e-4 |       | 544   |
| rotated, 9 outliers                  | 1.2e-4 | 0.20  | 560   |
| both                                 | 7.8e-5 |       | 595   |
| rotated, 36 outliers                 | 7.9e-5 |       | 632   |

Decoded vectors aren't always encoded to the same bytes: which numbers are the largest may change with rounding.
"""

# Shape letters: V vectors, D numbers of a vector, J outliers of a vector.

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.labels.int8_steps import Floats, scales_of, steps_of
from softlab.labels.rotated_arrays import arrays_of_rotated
from softlab.labels.rotation import rotate, rotate_back

ROOM = np.float32(2.0**-16)
"""By which vectors are multiplied while they are encoded: sums of 65,536 numbers of any size then don't overflow. It
makes zeros of vectors that have nothing over 1e-31."""

_KEPT_BITS = np.uint32(0xFFFF0000)
"""Of a float32: sign, exponent and 7 of 23 bits behind the leading one. What is cut off is rotated with the rest."""


def encode_rotated(values: Floats) -> dict[str, NDArray[Any]]:
    """Arrays by name, of finite values float32 [R, ...]."""
    arrays = arrays_of_rotated(values.shape[1:])
    _, (*_, num_outliers) = arrays["outliers"]
    vectors_VD = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    ids_VJ = _places_of_largest(vectors_VD, num_outliers)
    largest_VJ = np.take_along_axis(vectors_VD, ids_VJ, axis=1)
    outliers_VJ = (largest_VJ.view(np.uint32) & _KEPT_BITS).view(np.float32)
    rest_VD = vectors_VD * ROOM
    np.put_along_axis(rest_VD, ids_VJ, (largest_VJ - outliers_VJ) * ROOM, axis=1)
    rotated_VD: Floats = rotate(torch.from_numpy(rest_VD)).numpy()
    scale_V = scales_of(rotated_VD)
    found: dict[str, NDArray[Any]] = {
        "values": steps_of(rotated_VD, scale_V),
        "scale": scale_V / ROOM,
        "outliers": outliers_VJ,
        "outlier_ids": ids_VJ,
    }
    return {name: found[name].astype(dtype).reshape(len(values), *shape) for name, (dtype, shape) in arrays.items()}


def decode_rotated(stored: Mapping[str, Tensor]) -> Tensor:
    """float32 [R, ...], on the device of what is stored; integers may be signed, with the bits of those stored."""
    steps, ids = stored["values"], stored["outlier_ids"]
    width, num_outliers = steps.shape[-1] if steps.ndim > 1 else 1, ids.shape[-1]
    decoded_VD = rotate_back(steps.float().reshape(-1, width)).mul_(stored["scale"].reshape(-1, 1))
    ids_VJ = ids.reshape(-1, num_outliers).long() & ((1 << (8 * ids.element_size())) - 1)
    # Places of one vector differ, so the sum doesn't depend on any order.
    outliers_VJ = decoded_VD.gather(1, ids_VJ).add_(stored["outliers"].reshape(-1, num_outliers))
    return decoded_VD.scatter_(1, ids_VJ, outliers_VJ).view(steps.shape)


def _places_of_largest(vectors_VD: Floats, count: int) -> NDArray[np.int64]:
    """int64 [V, J], ascending; of equal magnitudes the first ones."""
    magnitude_VD = np.abs(vectors_VD)
    least_V1 = np.partition(magnitude_VD, -count, axis=1)[:, -count, None]
    chosen_VD = magnitude_VD >= least_V1
    tied = np.flatnonzero(chosen_VD.sum(axis=1) > count)
    is_larger_TD = magnitude_VD[tied] > least_V1[tied]
    is_equal_TD = chosen_VD[tied] & ~is_larger_TD
    left_T1 = count - is_larger_TD.sum(axis=1, keepdims=True)
    chosen_VD[tied] = is_larger_TD | (is_equal_TD & (is_equal_TD.cumsum(axis=1) <= left_T1))
    return np.nonzero(chosen_VD)[1].reshape(-1, count)
