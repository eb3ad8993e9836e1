"""How far a model's distribution over the classes is from its teacher's, in nats.

Where the store keeps all classes, `teacher_kl` and `teacher_jensen_shannon` are the full divergences. Where it keeps
fewer, nobody knows how its tail is spread, and `teacher_bucket_kl` and `teacher_bucket_jensen_shannon` compare the kept
classes and, as one more class, all others together. A copy of the teacher then still has 0, and no model has more than
its full divergence: classes that are counted together can only hide a difference. Both distributions are at temperature
1 where it is stored, else at the smallest stored one above 1, else at the largest.

Where the store keeps an unbiased sample of the classes, `teacher_sampled_kl` estimates the full divergence: of a row it
is the sum of w * -log q over the sample, each class with its weight w, minus the stored entropy. Its mean over many
rows is near the true one, and of a copy of the teacher near 0, a little above or below.
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


class _Kl:
    """KL(teacher || model), mean over the rows; the bucket counts only where classes are left out."""

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.labels is not None
        kl_B = kl_rows(outputs.logits_BC, batch.labels, temperature=_temperature(batch.labels), tail="bucket")
        self._mean.add(kl_B, rows=len(batch.labels))

    def value(self) -> float | None:
        return self._mean.value()


class _JensenShannon:
    """KL(teacher || m) / 2 + KL(model || m) / 2 with m the mean of both (Lin 1991, equation 4.1): 0 to log 2; mean over
    the rows."""

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.labels is not None
        temperature = _temperature(batch.labels)
        loss = jensen_shannon_loss(outputs.logits_BC, batch.labels, temperature=temperature, tail="bucket")
        # It is T^2 times the mean.
        self._mean.add(loss.to(sum_dtype(loss.device)) * (len(batch.labels) / temperature**2), rows=len(batch.labels))

    def value(self) -> float | None:
        return self._mean.value()


class TeacherKl(_Kl):
    """Over all classes."""

    name, label, column = "teacher_kl", "KL to the teacher, all classes", "KL"
    unit, higher_is_better = NATS, False
    needs: frozenset[Need] = NEEDS | {"whole rows"}


class TeacherBucketKl(_Kl):
    """Over the kept classes and all others together."""

    name, label, column = "teacher_bucket_kl", "KL to the teacher, other classes as one", "bucket KL"
    unit, higher_is_better = NATS, False
    needs: frozenset[Need] = NEEDS | {"cut rows"}


class TeacherSampledKl(_Kl):
    """Over all classes, as a sample of them tells it."""

    name, label = "teacher_sampled_kl", "KL to the teacher, estimate from sampled classes"
    column = "sampled KL"
    unit, higher_is_better = NATS, False
    needs: frozenset[Need] = NEEDS | {"sampled rows"}


class TeacherJensenShannon(_JensenShannon):
    """Over all classes."""

    name, label, column = "teacher_jensen_shannon", "Jensen-Shannon to the teacher, all classes", "JS"
    unit, higher_is_better = NATS, False
    needs: frozenset[Need] = NEEDS | {"all classes", "whole rows"}


class TeacherBucketJensenShannon(_JensenShannon):
    """Over the kept classes and all others together."""

    name, label = "teacher_bucket_jensen_shannon", "Jensen-Shannon to the teacher, other classes as one"
    column = "bucket JS"
    unit, higher_is_better = NATS, False
    needs: frozenset[Need] = NEEDS | {"all classes", "cut rows"}


def _temperature(labels: SoftLabels) -> float:
    return next((temperature for temperature in labels.temperatures if temperature >= 1), labels.temperatures[-1])
