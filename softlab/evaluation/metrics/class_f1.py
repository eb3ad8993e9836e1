"""How well single classes are found among samples of one class each."""

# Shape letters: C classes.

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.per_class import CountsOfClasses
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch


class ClassF1:
    """Mean over classes of 2 TP / (2 TP + FP + FN), over the rows whose target is known: each class counts alike.
    Classes that are neither there nor predicted don't."""

    name, label, column = "class_f1", "mean F1 of the classes", "F1"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"targets", "logits", "few classes"})

    def __init__(self, device: torch.device) -> None:
        self._counts = CountsOfClasses()

    def add(self, outputs: Outputs, batch: Batch) -> None:
        self._counts.add(outputs, batch)

    def value(self) -> float | None:
        counts_3C = self._counts.counts_3C
        return None if counts_3C is None else _mean_f1(counts_3C)


def _mean_f1(counts_3C: Tensor) -> float | None:
    samples_C, predicted_C, correct_C = counts_3C.double().cpu()
    all_C = samples_C + predicted_C
    is_counted_C = all_C > 0
    return float((2 * correct_C[is_counted_C] / all_C[is_counted_C]).mean()) if is_counted_C.any() else None
