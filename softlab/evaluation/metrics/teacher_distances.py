"""How far a model's values are from its teacher's, number by number and by direction.

Not measured for a model whose values have another shape than the stored ones.
"""

import torch

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import COSINE, SQUARED
from softlab.labels.losses.features import cosine_distance, mean_squared_error
from softlab.loading.batch import Batch

NEEDS: frozenset[Need] = frozenset({"teacher values"})


class TeacherCosine:
    """Cosine of the model's vector and the teacher's, mean over rows and positions."""

    name, label, column = "teacher_cosine", "cosine to the teacher", "cosine"
    unit, higher_is_better = COSINE, True
    needs: frozenset[Need] = NEEDS | {"vectors"}

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        stored = outputs.teacher_values
        assert stored is not None
        if outputs.logits_BC.shape == stored.shape:
            rows = len(stored)
            self._mean.add((1 - cosine_distance(outputs.logits_BC, stored)) * rows, rows=rows)

    def value(self) -> float | None:
        return self._mean.value()


class TeacherMse:
    """(model's number - teacher's)^2, mean over numbers and rows."""

    name, label, column = "teacher_mse", "squared error to the teacher", "MSE"
    unit, higher_is_better = SQUARED, False
    needs: frozenset[Need] = NEEDS

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        stored = outputs.teacher_values
        assert stored is not None
        if outputs.logits_BC.shape == stored.shape:
            rows = len(stored)
            self._mean.add(mean_squared_error(outputs.logits_BC, stored) * rows, rows=rows)

    def value(self) -> float | None:
        return self._mean.value()
