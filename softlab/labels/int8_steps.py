"""Rows of numbers as whole steps of a scale that each row has of its own."""

# Shape letters: R rows in a block.

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MOST_STEPS = 127
"""-128 isn't used: a row and its negative are the same steps but for their signs."""

SCALE_DTYPE = "float32"
_KEPT_BITS = np.uint32(0xFFFFF000)
"""Of a float32: sign, exponent and 11 of 23 bits behind the leading one."""


def scales_of(values: Floats) -> Floats:
    """float32 [R]. 0 for a row of zeros, and for one whose steps would be subnormal (nothing in it is over 1.5e-36)."""
    largest_R = np.abs(values).max(axis=tuple(range(1, values.ndim)), initial=0)
    assert np.isfinite(largest_R).all(), "values are checked before they are encoded"
    scale_R: Floats = ((largest_R / np.float32(MOST_STEPS)).view(np.uint32) & _KEPT_BITS).view(np.float32)
    return np.where(scale_R < np.finfo(np.float32).smallest_normal, np.float32(0), scale_R)


def steps_of(values: Floats, scale_R: Floats) -> NDArray[np.int8]:
    """int8 [R, ...]. Divided in float64: float32 would round some values to the farther of two steps."""
    divisor_R = np.where(scale_R == 0, np.inf, scale_R.astype(np.float64))
    steps = values / divisor_R.reshape(len(values), *[1] * (values.ndim - 1))
    return np.rint(steps, out=steps).astype(np.int8)
