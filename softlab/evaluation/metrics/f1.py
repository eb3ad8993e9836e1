"""How well single classes are found among samples that may be of several."""

# Shape letters: B rows in a batch, C classes.

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch

NEEDS: frozenset[Need] = frozenset({"label sets"})


class _F1:
    """2 TP / (2 TP + FP + FN) over the rows whose labels are known; a class is predicted where its logit is above 0."""

    def __init__(self, device: torch.device) -> None:
        self._counts_2C: Tensor | None = None

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.label_sets_BC is not None
        counts_2C = right_and_all(outputs.logits_BC, batch.label_sets_BC)
        self._counts_2C = counts_2C if self._counts_2C is None else self._counts_2C + counts_2C


class MicroF1(_F1):
    """Of all classes together: each label counts alike."""

    name, label, column = "micro_f1", "F1 over all labels", "micro F1"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = NEEDS

    def value(self) -> float | None:
        return None if self._counts_2C is None else _mean_f1(self._counts_2C.sum(dim=1, keepdim=True))


class MacroF1(_F1):
    """Mean of those of the classes: each class counts alike. Classes that are neither there nor predicted don't."""

    name, label, column = "macro_f1", "F1, mean over classes", "macro F1"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = NEEDS

    def value(self) -> float | None:
        return None if self._counts_2C is None else _mean_f1(self._counts_2C)


def right_and_all(logits_BC: Tensor, label_sets_BC: Tensor) -> Tensor:
    """int64 [2, C]: 2 TP, and 2 TP + FP + FN, of each class. The counts of two batches are added."""
    is_known_B1 = (label_sets_BC >= 0).all(dim=1, keepdim=True)
    predicted_BC, there_BC = (logits_BC > 0) & is_known_B1, (label_sets_BC > 0) & is_known_B1
    right_C = 2 * (predicted_BC & there_BC).sum(dim=0)
    return torch.stack([right_C, predicted_BC.sum(dim=0) + there_BC.sum(dim=0)])


def _mean_f1(counts_2C: Tensor) -> float | None:
    right_C, all_C = counts_2C.double().cpu()
    counts_C = all_C > 0
    return float((right_C[counts_C] / all_C[counts_C]).mean()) if counts_C.any() else None
