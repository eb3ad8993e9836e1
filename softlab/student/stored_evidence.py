"""What stored soft labels tell of how a student should learn from them, before one is trained."""

# Shape letters: B rows, K entries kept.

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from softlab.labels.losses.teacher import distribution_at
from softlab.labels.row_figures import sureness
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.told import already_told
from softlab.loading.label_check import looked_at
from softlab.store.reader import Store

NEARLY_ALL = 0.99
"""Of the teacher's probability: with so much of it kept, more classes hardly change a gradient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtTemperature:
    """How much of the teacher is stored at one temperature, means over rows."""

    temperature: float
    mass: float
    """Probability of the kept classes."""

    enough_k: int | None
    """The fewest classes that hold `NEARLY_ALL` of the probability; None where all that are kept hold less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEvidence:
    """Of one store."""

    name: str
    num_classes: int
    kept: str
    """K, or how rows are sampled, in words."""

    num_views: int
    teacher_accuracy: float | None
    """On the hard targets that it was dumped with; None where there were none."""

    entropy: float | None
    """Nats a row at T = 1; None where the tail isn't known there."""

    at: tuple[AtTemperature, ...]
    """None of rows that are sampled, which are for T = 1 and hold it whole in the mean."""


def evidence_of(store: Store) -> StoredEvidence:
    """Of some rows from all over a store that has soft labels."""
    statistics, at = store.statistics, tuple[AtTemperature, ...]()
    if store.labels.is_sampled:
        entropy = statistics.mean_entropy
    else:
        labels = store.read(looked_at(store, np.arange(store.num_samples))[1])
        at = tuple(_at(labels, temperature) for temperature in store.temperatures)
        entropy = _entropy(labels) if min(store.temperatures) <= 1 else None
    return StoredEvidence(
        name=store.name,
        num_classes=store.num_classes,
        kept=store.labels.selection.in_words if store.labels.is_sampled else f"K = {store.k}",
        num_views=store.num_views,
        teacher_accuracy=statistics.accuracy,
        entropy=entropy,
        at=at,
    )


def _at(labels: SoftLabels, temperature: float) -> AtTemperature:
    with already_told():
        cumulated_K = _shares(labels, temperature).cumsum(dim=1).mean(dim=0)
    reached = (cumulated_K >= NEARLY_ALL).nonzero()
    enough = int(reached[0]) + 1 if len(reached) else None
    return AtTemperature(temperature=temperature, mass=float(cumulated_K[-1]), enough_k=enough)


def _shares(labels: SoftLabels, temperature: float) -> Tensor:
    """Of each kept class [B, K], float64: its probability, or under a sigmoid head its share of all probabilities."""
    if labels.head == "softmax":
        return distribution_at(labels, temperature=temperature, tail="uniform").log_kept_BK.double().exp()
    logits_BK = labels.logits_BK.double() + labels.max_logit_B.double()[:, None]
    kept_BK = (logits_BK / temperature).sigmoid()
    outside_B = labels.num_tail_B.double() * labels.log_tail_at(temperature).double().exp()
    return kept_BK / (kept_BK.sum(dim=1) + outside_B)[:, None]


def _entropy(labels: SoftLabels) -> float:
    return float(sureness(labels)["entropy"].mean())
