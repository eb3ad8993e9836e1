"""How often the teacher is right."""

import torch

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch


class TeacherAccuracy:
    """The teacher's own accuracy on the same rows: the same for all models."""

    name, label, column = "teacher_accuracy", "the teacher's accuracy", "teacher"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"targets", "teacher"})

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.targets_B is not None
        assert batch.labels is not None
        is_right_B = batch.labels.class_ids_BK[:, 0] == batch.targets_B
        self._mean.add(is_right_B, rows=(batch.targets_B >= 0).sum())

    def value(self) -> float | None:
        return self._mean.value()
