"""How far a model's classes go with the targets, chance left out."""

# Shape letters: C classes.

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.per_class import CountsOfClasses
from softlab.evaluation.metrics.unit import COSINE
from softlab.loading.batch import Batch


class Matthews:
    """The correlation of predicted and hard classes (Matthews 1975; for several classes Gorodkin 2004, equation 8): 1
    where all are right, 0 for a model that always says the same."""

    name, label, column = "matthews", "Matthews correlation", "MCC"
    unit, higher_is_better = COSINE, True
    needs: frozenset[Need] = frozenset({"targets", "logits", "few classes"})

    def __init__(self, device: torch.device) -> None:
        self._counts = CountsOfClasses()

    def add(self, outputs: Outputs, batch: Batch) -> None:
        self._counts.add(outputs, batch)

    def value(self) -> float | None:
        counts_3C = self._counts.counts_3C
        return None if counts_3C is None or not counts_3C[0].sum() else _correlation(counts_3C)


def _correlation(counts_3C: Tensor) -> float:
    samples_C, predicted_C, correct_C = counts_3C.double().cpu()
    rows = samples_C.sum()
    together = correct_C.sum() * rows - samples_C @ predicted_C
    alone = (rows**2 - samples_C @ samples_C) * (rows**2 - predicted_C @ predicted_C)
    return float(together / alone.sqrt()) if alone > 0 else 0.0
