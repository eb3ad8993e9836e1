"""How good the rows of a shard are, as its record tells it."""

# Shape letters: N rows, K entries kept.

from collections.abc import Callable

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from torch import Tensor

from softlab.labels.captured import captured_mass
from softlab.labels.gap_step import coding_cost, coding_shift
from softlab.labels.soft_labels import SoftLabels
from softlab.manifest import Statistics


def measure(
    labels: SoftLabels,
    *,
    targets_N: NDArray[np.int64] | None,
    clipped_logits: int,
    stored: SoftLabels | None = None,
) -> Statistics:
    """How good some rows are: what their kept classes capture, and how often the first is the hard target. Given what
    is `stored` of them, also what their coding costs."""
    known = np.zeros(len(labels), dtype=bool) if targets_N is None else targets_N >= 0
    hits = 0 if targets_N is None else int((labels.class_ids_BK[:, 0].numpy() == targets_N)[known].sum())
    return Statistics(
        rows=len(labels),
        rows_with_target=int(known.sum()),
        correct=hits,
        captured_mass=tuple(captured_mass(labels).sum(dim=0).tolist()),
        clipped_logits=clipped_logits,
        coding_kl=UNSET if stored is None else _sums(coding_cost, labels, stored),
        coding_shift=UNSET if stored is None else _sums(coding_shift, labels, stored),
    )


def _sums(cost: Callable[..., Tensor], exact: SoftLabels, stored: SoftLabels) -> tuple[float, ...]:
    """Over the rows, at each temperature."""
    return tuple(cost(exact, stored, temperature=each).sum().item() for each in exact.temperatures)
