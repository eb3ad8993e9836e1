"""KL between standardised logits."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.losses.checks import Tail, check_fit, check_tail
from softlab.labels.losses.notes import tell
from softlab.labels.losses.sparse_kl import sparse_kl, sparse_kl_rows, target_of
from softlab.labels.losses.teacher import LOWEST, SparseDistribution
from softlab.labels.losses.tempered import TemperedLoss
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.tail_logits import tail_logits

TAILS: tuple[Tail, ...] = ("uniform", "bucket")
"""`renormalise` would not say what a row's standard deviation is over all classes."""

EPSILON = 1e-7


def standardised_kl_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform"
) -> Tensor:
    """T^2 * KL(teacher || student) of z-scored logits at temperature T, in nats, mean over rows; a float32 scalar.

    Sun et al. (2024), algorithms 1 and 2: each row's logits, the teacher's and the student's, become
    (z - mean) / (standard deviation + 1e-7) before softmax(. / T), so that a student needs the teacher's ranking and
    proportions, not its scale. The standard deviation is that over C classes, sum divided by C. The authors' code
    divides by C - 1: its loss at T is (C - 1) / C times this one at T * sqrt(C / (C - 1)). T^2 is applied.

    Exact with K = C. Else the teacher's standard deviation, and the tail's mass at the temperature that it makes,
    follow from the mean and the variance of the tail's logits as `tail_logits` estimates them (one logit for the whole
    tail would make a teacher of 1,000 classes with 16 kept 3 times as sharp), and the tail is

    - `uniform`: shared equally by the classes outside, or
    - `bucket`: one more class, against the student's whole probability outside the kept classes.

    The gradient grows as 1 / the student's standard deviation: for a row of all but equal logits it is huge. Raises
    InvalidOption if the stored temperatures don't tell the tail's variance.
    """
    check_fit(student_logits_BC, labels, loss="standardised_kl")
    check_tail(tail, among=TAILS, loss="standardised_kl")
    tell(labels, loss="standardised_kl", temperature=temperature, tail=tail)
    student_BC = student_logits_BC.float()
    student_BC = student_BC / (student_BC.std(dim=1, correction=0, keepdim=True) + EPSILON)
    teacher = _kept_alone(labels, temperature) if labels.k == labels.num_classes else _with_tail(labels, temperature)
    if tail == "bucket" and teacher.num_tail:
        return temperature**2 * sparse_kl_rows(student_BC, teacher, temperature=temperature, tail=tail).mean()
    return sparse_kl(student_BC, target_of(teacher), temperature=temperature)


@dataclass(frozen=True, kw_only=True, slots=True)
class StandardisedKlLoss(TemperedLoss):
    """Options of `standardised_kl_loss`."""

    name: ClassVar[Literal["standardised_kl"]] = "standardised_kl"
    tails: ClassVar[tuple[Tail, ...]] = TAILS

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return standardised_kl_loss(student_logits_BC, labels, temperature=self.temperature_for(labels), tail=self.tail)


def _kept_alone(labels: SoftLabels, temperature: float) -> SparseDistribution:
    deviation_B1 = labels.logits_BK.std(dim=1, correction=0, keepdim=True) + EPSILON
    log_kept_BK = (labels.logits_BK / (temperature * deviation_B1)).log_softmax(dim=1)
    return SparseDistribution(
        class_ids_BK=labels.class_ids_BK, log_kept_BK=log_kept_BK.clamp(min=LOWEST), log_tail_B=None, num_tail=0
    )


def _with_tail(labels: SoftLabels, temperature: float) -> SparseDistribution:
    """A z-score's mean cancels in a softmax, and its standard deviation is a temperature of the row's own."""
    rest, num_tail = tail_logits(labels), labels.num_classes - labels.k
    if rest.variance_B is None:
        raise InvalidOption(
            f"standardised_kl: tails at temperature {', '.join(f'{stored:g}' for stored in labels.temperatures)} don't "
            f"tell how much the logits outside the kept ones vary. Keep all classes, or dump again with a second "
            f"temperature of at most half the first, as in `dump.temperature = [2, 4]`."
        )
    deviation_B = _deviation(labels, rest.mean_B, rest.variance_B, num_tail * rest.has_mass_B)
    beta_B = 1 / (temperature * (deviation_B + EPSILON))
    shared_B = torch.minimum(rest.mean_B + rest.variance_B * beta_B / 2, labels.logits_BK[:, -1])
    tail_B = (math.log(num_tail) + beta_B * shared_B).where(rest.has_mass_B, -math.inf)
    log_p = torch.cat([labels.logits_BK * beta_B[:, None], tail_B[:, None]], dim=1).log_softmax(dim=1)
    log_p = log_p.clamp(min=LOWEST)
    return SparseDistribution(
        class_ids_BK=labels.class_ids_BK, log_kept_BK=log_p[:, :-1], log_tail_B=log_p[:, -1], num_tail=num_tail
    )


def _deviation(labels: SoftLabels, tail_mean_B: Tensor, tail_variance_B: Tensor, num_tail_B: Tensor) -> Tensor:
    """Standard deviation of each row's logits, those of the tail known by their number, mean and variance."""
    num_classes_B = labels.k + num_tail_B
    mean_B = (labels.logits_BK.sum(dim=1) + num_tail_B * tail_mean_B) / num_classes_B
    kept_B = ((labels.logits_BK - mean_B[:, None]) ** 2).sum(dim=1)
    tail_B = num_tail_B * ((tail_mean_B - mean_B) ** 2 + tail_variance_B)
    return ((kept_B + tail_B) / num_classes_B).sqrt()
