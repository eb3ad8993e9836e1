"""How often a model decides as its teacher does."""

import torch

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch


class TeacherAgreement:
    """Share of the rows whose largest logit is where the teacher's is."""

    name, label, column = "teacher_agreement", "agreement with the teacher", "agreement"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"teacher"})

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.labels is not None
        self._mean.add(outputs.predicted_B == batch.labels.class_ids_BK[:, 0], rows=len(batch.labels))

    def value(self) -> float | None:
        return self._mean.value()
