"""How good the rows of a shard are, as its record tells it."""

# Shape letters: N rows, K entries kept.

import math
from collections.abc import Callable, Mapping

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from torch import Tensor

from softlab.labels.captured import captured_mass
from softlab.labels.gap_step import coding_cost, coding_shift
from softlab.labels.soft_labels import SoftLabels
from softlab.manifest import Statistics
from softlab.store.format import Array


def measure(
    labels: SoftLabels,
    *,
    targets_N: NDArray[np.int64] | None,
    clipped_logits: int,
    stored: SoftLabels | None = None,
    encoded: Mapping[str, Array] | None = None,
) -> Statistics:
    """How good some rows are: what their kept classes capture, and how often the first is the hard target. Given what
    is `stored` of them, also what their coding costs. Of sampled rows, which need the arrays that they are `encoded`
    as, also how many entries there are, and their entropy."""
    known = np.zeros(len(labels), dtype=bool) if targets_N is None else targets_N >= 0
    hits = 0 if targets_N is None else int((labels.class_ids_BK[:, 0].numpy() == targets_N)[known].sum())
    return Statistics(
        rows=len(labels),
        rows_with_target=int(known.sum()),
        correct=hits,
        captured_mass=_captured(labels, encoded),
        clipped_logits=clipped_logits,
        coding_kl=UNSET if stored is None else _sums(coding_cost, labels, stored),
        coding_shift=UNSET if stored is None else _sums(coding_shift, labels, stored),
        entries=len(encoded["class_ids"]) if labels.is_sampled and encoded is not None else UNSET,
        entropy=UNSET if labels.entropy_B is None else math.fsum(labels.entropy_B.tolist()),
    )


def _captured(labels: SoftLabels, encoded: Mapping[str, Array] | None) -> tuple[float, ...]:
    """Of sampled rows by the classes that aren't drawn."""
    if not labels.is_sampled or encoded is None:
        return tuple(captured_mass(labels).sum(dim=0).tolist())
    weight_RK = (labels.logits_BK.double() + labels.max_logit_B.double()[:, None]).exp().numpy()
    is_head_RK = np.arange(labels.k) < encoded["num_head"][:, None]
    return (math.fsum(weight_RK[is_head_RK].tolist()),)


def _sums(cost: Callable[..., Tensor], exact: SoftLabels, stored: SoftLabels) -> tuple[float, ...]:
    """Over the rows, at each temperature."""
    return tuple(cost(exact, stored, temperature=each).sum().item() for each in exact.temperatures)
