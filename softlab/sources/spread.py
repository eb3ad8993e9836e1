"""Which samples of a source are looked at where some stand for all."""

# Shape letters: S samples that are looked at.

import numpy as np
from numpy.typing import NDArray

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, without their whole part, fill 0..1 evenly however many there are."""


def spread_indices(num_samples: int, *, count: int) -> NDArray[np.int64]:
    """int64 [S], ascending: one of each of `count` equal stretches, not always at the same place of it. So all classes
    are seen of a source that goes through them in turn, where every n-th sample could be of one class alone."""
    stretches_S = np.arange(count)
    starts_S, stops_S = stretches_S * num_samples // count, (stretches_S + 1) * num_samples // count
    return starts_S + (stretches_S * GOLDEN % 1 * (stops_S - starts_S)).astype(np.int64)
