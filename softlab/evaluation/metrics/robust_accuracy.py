"""How often a model is right on samples that were changed so that it errs."""

import torch

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch


class RobustAccuracy:
    """Share of the rows with a known target whose largest logit is at it, after an attack on the sample."""

    name, label, column = "robust_accuracy", "accuracy under attack", "robust"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"targets", "logits", "attack"})

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.targets_B is not None
        self._mean.add(outputs.predicted_B == batch.targets_B, rows=(batch.targets_B >= 0).sum())

    def value(self) -> float | None:
        return self._mean.value()
