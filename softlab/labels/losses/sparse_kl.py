"""KL of a sparse teacher's distribution against a student's, with its gradient written down instead of traced."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softlab.labels.losses.checks import Tail
from softlab.labels.losses.compared import compare, forward_term
from softlab.labels.losses.log_softmax import log_softmax_rows
from softlab.labels.losses.teacher import SparseDistribution
from softlab.labels.losses.written_gradient import refuse_another_derivative

NO_MASS = -104.0
"""Nats; the probability is 0 in float32. A lower logarithm would only cost digits where it cancels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A teacher's distribution in which the classes outside have an equal share of the tail, or nothing without one, as
    KL and its gradient need it."""

    class_ids_BK: Tensor
    log_kept_BK: Tensor
    below_BK: Tensor
    """By how much the probability of a kept class is below the share of a class outside; that is, it is negative."""

    share_B: Tensor | None
    """Probability of each class outside."""

    log_sum_B: Tensor
    """Sum over all classes of the log-probability."""

    is_valid_BC: Tensor | None = None
    """Which classes each row has, where they may be fewer than C; the share is of those alone."""

    def split(self, sizes: Sequence[int]) -> "list[Target]":
        """The first so many rows, the next so many, .."""
        sizes = list(sizes)
        parts = zip(
            torch.split(self.class_ids_BK, sizes),
            torch.split(self.log_kept_BK, sizes),
            torch.split(self.below_BK, sizes),
            [None] * len(sizes) if self.share_B is None else torch.split(self.share_B, sizes),
            torch.split(self.log_sum_B, sizes),
            [None] * len(sizes) if self.is_valid_BC is None else torch.split(self.is_valid_BC, sizes),
            strict=True,
        )
        return [
            Target(
                class_ids_BK=ids_BK,
                log_kept_BK=log_kept_BK,
                below_BK=below_BK,
                share_B=share_B,
                log_sum_B=log_sum_B,
                is_valid_BC=is_valid_BC,
            )
            for ids_BK, log_kept_BK, below_BK, share_B, log_sum_B, is_valid_BC in parts
        ]


def target_of(teacher: SparseDistribution) -> Target:
    """All that depends on the teacher alone."""
    log_kept_BK = teacher.log_kept_BK.clamp(min=NO_MASS)
    below_BK, share_B, log_sum_B = -log_kept_BK.exp(), None, log_kept_BK.sum(dim=1)
    if teacher.log_tail_B is not None and teacher.valid_B is None:
        share_B = teacher.log_tail_B.exp() / teacher.num_tail
        below_BK += share_B[:, None]
        log_sum_B += teacher.num_tail * (teacher.log_tail_B - math.log(teacher.num_tail))
    elif teacher.log_tail_B is not None:  # a row that has no more than its K classes has no tail, and so no share
        share_B = teacher.log_tail_B.exp() / teacher.num_tail_B
        below_BK += share_B[:, None]
        log_sum_B += teacher.num_tail_B * (teacher.log_tail_B - teacher.num_tail_B.log())
    return Target(
        class_ids_BK=teacher.class_ids_BK,
        log_kept_BK=log_kept_BK,
        below_BK=below_BK,
        share_B=share_B,
        log_sum_B=log_sum_B,
        is_valid_BC=teacher.is_valid_BC,
    )


def sparse_kl(student_BC: Tensor, target: Target, *, temperature: float) -> Tensor:
    """T^2 * KL(target || softmax(student / T)), in nats, mean over rows; a scalar."""
    kl: Tensor = _SparseKL.apply(student_BC, target, temperature)
    return kl


def sparse_kl_rows(student_BC: Tensor, teacher: SparseDistribution, *, temperature: float, tail: Tail) -> Tensor:
    """KL(teacher || softmax(student / T)) of each row, [B], in nats."""
    return compare(student_BC, teacher, temperature=temperature, tail=tail).sum_over_classes(forward_term)


class _SparseKL(torch.autograd.Function):
    """A kept class has its share like the others, and what it has above that. So KL is the share times the sum over all
    classes of the difference of the logs, plus, for kept classes, what is above times that difference. Its gradient in
    the student's logits is (softmax(student / T) - target) / T: dense minus the share, then a scatter on kept classes.
    That is half the operations of the traced formula."""

    @staticmethod
    def forward(ctx: Any, student_BC: Tensor, target: Target, temperature: float) -> Tensor:
        log_q_BC = log_softmax_rows(student_BC / temperature)
        difference_BK = log_q_BC.gather(1, target.class_ids_BK) - target.log_kept_BK
        total = (target.below_BK * difference_BK).sum()
        if target.share_B is not None:
            valid_BC = log_q_BC if target.is_valid_BC is None else log_q_BC.masked_fill(~target.is_valid_BC, 0.0)
            total += torch.dot(target.share_B, target.log_sum_B - valid_BC.sum(dim=1))
        scale = temperature / len(student_BC)
        if ctx.needs_input_grad[0]:
            gradient_BC = log_q_BC.exp_()
            if target.share_B is not None:
                share_B1 = target.share_B[:, None]
                gradient_BC -= share_B1 if target.is_valid_BC is None else share_B1 * target.is_valid_BC
            ctx.gradient_BC = gradient_BC.scatter_add_(1, target.class_ids_BK, target.below_BK).mul_(scale)
        return total * (scale * temperature)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        refuse_another_derivative()
        return ctx.gradient_BC * gradient, None, None
