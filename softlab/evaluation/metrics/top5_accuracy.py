"""How often the right class is among a model's first five."""

import torch

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch

FIRST = 5


class Top5Accuracy:
    """Share of the rows with a known target that is the class of one of their five largest logits."""

    name, label, column = "top5_accuracy", "top-5 accuracy", "top-5"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"targets", "logits", "few classes", "six classes"})

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.targets_B is not None
        # Of a model with fewer outputs than the data have classes, all.
        first_B5 = outputs.logits_BC.topk(min(FIRST, outputs.logits_BC.shape[1]), dim=1).indices
        self._mean.add((first_B5 == batch.targets_B[:, None]).any(dim=1), rows=(batch.targets_B >= 0).sum())

    def value(self) -> float | None:
        return self._mean.value()
