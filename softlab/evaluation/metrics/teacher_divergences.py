"""How far a model's distribution over the classes is from its teacher's, in nats.

The teacher's tail is shared equally by the classes outside the stored ones. Both distributions are at temperature 1, or
at the smallest stored temperature where that is higher.
"""

import torch

from softlab.evaluation.metrics.mean import Mean, sum_dtype
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import NATS
from softlab.labels.losses import jensen_shannon_loss, kl_rows
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.batch import Batch

NEEDS: frozenset[Need] = frozenset({"teacher", "softmax"})


class TeacherKl:
    """KL(teacher || model), mean over the rows."""

    name, label, column = "teacher_kl", "KL to the teacher", "KL"
    unit, higher_is_better, needs = NATS, False, NEEDS

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.labels is not None
        kl_B = kl_rows(outputs.logits_BC, batch.labels, temperature=_temperature(batch.labels))
        self._mean.add(kl_B, rows=len(batch.labels))

    def value(self) -> float | None:
        return self._mean.value()


class TeacherJensenShannon:
    """KL(teacher || m) / 2 + KL(model || m) / 2 with m the mean of both (Lin 1991, equation 4.1): 0 to log 2; mean over
    the rows."""

    name, label, column = "teacher_jensen_shannon", "Jensen-Shannon to the teacher", "JS"
    unit, higher_is_better = NATS, False
    needs: frozenset[Need] = NEEDS | {"all classes"}

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.labels is not None
        temperature = _temperature(batch.labels)
        loss = jensen_shannon_loss(outputs.logits_BC, batch.labels, temperature=temperature)  # T^2 times the mean
        self._mean.add(loss.to(sum_dtype(loss.device)) * (len(batch.labels) / temperature**2), rows=len(batch.labels))

    def value(self) -> float | None:
        return self._mean.value()


def _temperature(labels: SoftLabels) -> float:
    return max(1.0, labels.temperatures[0])
