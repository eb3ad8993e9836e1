"""Divergences that also look from the student's side: reverse KL, symmetric KL, generalised Jensen-Shannon."""

# Shape letters: B rows in a batch, C classes.

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from softlab.labels.losses.checks import Tail, check_fit, check_tail
from softlab.labels.losses.compared import Compared, compare, reverse_term
from softlab.labels.losses.notes import tell
from softlab.labels.losses.teacher import distribution_at
from softlab.labels.losses.tempered import TemperedLoss, check_option
from softlab.labels.soft_labels import SoftLabels

REVERSE_TAILS: tuple[Tail, ...] = ("uniform", "bucket")
"""Under `renormalise` the teacher gives the classes outside nothing, so that a reverse KL is infinite."""

JENSEN_SHANNON_TAILS: tuple[Tail, ...] = ("uniform", "bucket", "renormalise")


def reverse_kl_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform"
) -> Tensor:
    """T^2 * KL(student || teacher) at temperature T, in nats, mean over rows; a float32 scalar.

    The sum over classes of s * log(s / t), with s and t softmax(logits / T): the objective of MiniLLM (Gu et al. 2024,
    section 2), which seeks modes where the forward KL covers them. T^2 is applied. No log t is taken below -65,504, the
    lowest that is stored in float16. Tails:

    - `uniform`: each class outside has an equal share of the exact tail mass. With K = C this is the full KL.
    - `bucket`: the tail is one more class, against the student's whole probability outside the kept classes.
    """
    compared = _compared(student_logits_BC, labels, "reverse_kl", REVERSE_TAILS, temperature=temperature, tail=tail)
    return temperature**2 * compared.sum_over_classes(reverse_term).mean()


def symmetric_kl_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform", balance: float = 0.5
) -> Tensor:
    """T^2 * (balance * KL(teacher || student) + (1 - balance) * KL(student || teacher)), in nats, mean over rows.

    A float32 scalar. Half of Jeffreys's (1946) divergence at balance 1/2. T^2 is applied; tails as for
    `reverse_kl_loss`.
    """

    def term(log_p: Tensor, log_q: Tensor) -> Tensor:
        return (balance * log_p.exp() - (1 - balance) * log_q.exp()) * (log_p - log_q)

    compared = _compared(student_logits_BC, labels, "symmetric_kl", REVERSE_TAILS, temperature=temperature, tail=tail)
    return temperature**2 * compared.sum_over_classes(term).mean()


def jensen_shannon_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform", beta: float = 0.5
) -> Tensor:
    """T^2 * (beta * KL(t || m) + (1 - beta) * KL(s || m)) with m = beta * t + (1 - beta) * s, in nats, mean over rows.

    A float32 scalar; s is the student, t the teacher, both softmax(logits / T), 0 < beta < 1. The generalised
    Jensen-Shannon divergence of GKD (Agarwal et al. 2024, section 2), which at small beta tends to beta * KL(t || s),
    at large beta to (1 - beta) * KL(s || t). GKD does not multiply by T^2; here T^2 is applied, as for the other
    losses. Tails:

    - `uniform`: each class outside has an equal share of the exact tail mass. With K = C this is the full divergence.
    - `bucket`: the tail is one more class, against the student's whole probability outside the kept classes.
    - `renormalise`: the teacher's kept classes are rescaled to sum to 1; outside it says 0, the student what it says.
    """
    log_beta, log_rest = math.log(beta), math.log1p(-beta)

    def term(log_p: Tensor, log_q: Tensor) -> Tensor:
        log_m = torch.logaddexp(log_beta + log_p, log_rest + log_q)
        return beta * log_p.exp() * (log_p - log_m) + (1 - beta) * log_q.exp() * (log_q - log_m)

    compared = _compared(
        student_logits_BC, labels, "jensen_shannon", JENSEN_SHANNON_TAILS, temperature=temperature, tail=tail
    )
    return temperature**2 * compared.sum_over_classes(term).mean()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReverseKlLoss(TemperedLoss):
    """Options of `reverse_kl_loss`."""

    name: ClassVar[Literal["reverse_kl"]] = "reverse_kl"
    tails: ClassVar[tuple[Tail, ...]] = REVERSE_TAILS

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return reverse_kl_loss(student_logits_BC, labels, temperature=self.temperature_for(labels), tail=self.tail)


@dataclass(frozen=True, kw_only=True, slots=True)
class SymmetricKlLoss(TemperedLoss):
    """Options of `symmetric_kl_loss`."""

    name: ClassVar[Literal["symmetric_kl"]] = "symmetric_kl"
    tails: ClassVar[tuple[Tail, ...]] = REVERSE_TAILS

    balance: float = 0.5
    """Weight of KL(teacher || student); 1 - balance is that of KL(student || teacher)."""

    def __post_init__(self) -> None:
        TemperedLoss.__post_init__(self)
        check_option(0 <= self.balance <= 1, "balance", self.balance, "0 to 1")

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return symmetric_kl_loss(
            student_logits_BC, labels, temperature=self.temperature_for(labels), tail=self.tail, balance=self.balance
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JensenShannonLoss(TemperedLoss):
    """Options of `jensen_shannon_loss`."""

    name: ClassVar[Literal["jensen_shannon"]] = "jensen_shannon"
    tails: ClassVar[tuple[Tail, ...]] = JENSEN_SHANNON_TAILS

    beta: float = 0.5
    """The teacher's share of the mixture, between 0 and 1."""

    def __post_init__(self) -> None:
        TemperedLoss.__post_init__(self)
        check_option(0 < self.beta < 1, "beta", self.beta, "a number between 0 and 1, both excluded")

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return jensen_shannon_loss(
            student_logits_BC, labels, temperature=self.temperature_for(labels), tail=self.tail, beta=self.beta
        )


def _compared(
    student_logits_BC: Tensor, labels: SoftLabels, loss: str, tails: tuple[Tail, ...], *, temperature: float, tail: Tail
) -> Compared:
    check_fit(student_logits_BC, labels, loss=loss)
    check_tail(tail, among=tails, loss=loss)
    tell(labels, loss=loss, temperature=temperature, tail=tail)
    teacher = distribution_at(labels, temperature=temperature, tail=tail)
    return compare(student_logits_BC, teacher, temperature=temperature, tail=tail)
