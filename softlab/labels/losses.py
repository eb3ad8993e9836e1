"""Distillation losses from soft labels; no dense [B, C] teacher tensor is ever built."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math
from typing import Literal

import torch
from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.soft_labels import SoftLabels

Tail = Literal["uniform", "bucket", "renormalise"]


def distillation_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform"
) -> Tensor:
    """T^2 * KL(teacher || student) at temperature T, in nats, mean over rows; a float32 scalar.

    Hinton, Vinyals, Dean (2015), section 2: both distributions are softmax(logits / T), and T^2 keeps the size of the
    gradients independent of T. What the teacher said outside its K kept classes enters as `tail` says:

    - `uniform`: the other C - K classes share the exact tail mass equally. With K = C this is the full KL.
    - `bucket`: the tail is one more class, against the student's whole probability outside the kept classes.
    - `renormalise`: the tail is dropped and the kept classes are rescaled to sum to 1, for the teacher alone.

    Raises StoreMismatch if the student has another number of classes, InvalidOption below the smallest stored
    temperature; warns with InterpolatedTail at one that is not stored.
    """
    return temperature**2 * kl_rows(student_logits_BC, labels, temperature=temperature, tail=tail).mean()


def kl_rows(student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform") -> Tensor:
    """KL(teacher || student) at temperature T of each row, float32 [B], in nats, without the factor T^2."""
    check_same_classes(student_logits_BC, labels)
    scaled_BC = student_logits_BC.float() / temperature
    log_normaliser_B = scaled_BC.logsumexp(dim=1)
    student_BK = scaled_BC.gather(1, labels.class_ids_BK) - log_normaliser_B[:, None]
    if tail == "renormalise":
        return _cross_term(head_log_probabilities(labels, temperature=temperature, log_tail_B=None), student_BK)
    log_tail_B = labels.log_tail_at(temperature)
    teacher_BK = head_log_probabilities(labels, temperature=temperature, log_tail_B=log_tail_B)
    head_B = _cross_term(teacher_BK, student_BK)
    num_tail = labels.num_classes - labels.k
    if num_tail == 0:
        return head_B
    if tail == "bucket":
        student_tail_B = _log_outside(scaled_BC, labels.class_ids_BK) - log_normaliser_B
        return head_B + _times_probability(log_tail_B, log_tail_B - student_tail_B)
    student_sum_B = scaled_BC.sum(dim=1) - labels.num_classes * log_normaliser_B - student_BK.sum(dim=1)
    return head_B + _times_probability(log_tail_B, log_tail_B - math.log(num_tail) - student_sum_B / num_tail)


def head_log_probabilities(labels: SoftLabels, *, temperature: float, log_tail_B: Tensor | None) -> Tensor:
    """The teacher's log-probabilities of the kept classes, float32 [B, K]; rescaled to sum to 1 if no tail is given."""
    head_BK = (labels.logits_BK / temperature).log_softmax(dim=1)
    if log_tail_B is None:
        return head_BK
    return head_BK + torch.log(-torch.expm1(log_tail_B))[:, None]


def check_same_classes(student_logits_BC: Tensor, labels: SoftLabels) -> None:
    """Raises StoreMismatch unless the student's logits have the teacher's number of classes."""
    if student_logits_BC.shape[1] != labels.num_classes:
        raise StoreMismatch(
            f"the student has {student_logits_BC.shape[1]} outputs, but the labels are over {labels.num_classes} "
            f"classes. Build the student with num_classes = {labels.num_classes}."
        )


def _cross_term(teacher_BK: Tensor, student_BK: Tensor) -> Tensor:
    return _times_probability(teacher_BK, teacher_BK - student_BK).sum(dim=1)


def _times_probability(log_probability: Tensor, value: Tensor) -> Tensor:
    """exp(log p) * value, and 0 where p is 0: the limit of p log p, without the NaN of 0 * inf."""
    is_zero = log_probability.isneginf()
    return log_probability.exp() * value.masked_fill(is_zero, 0.0)


def _log_outside(scaled_BC: Tensor, class_ids_BK: Tensor) -> Tensor:
    """Log of the sum of exp(scaled) outside the kept classes; summed itself, as 1 - sum(kept) loses small tails."""
    return scaled_BC.scatter(1, class_ids_BK, -math.inf).logsumexp(dim=1)
