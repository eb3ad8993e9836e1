"""KL of a sparse teacher's distribution against a student's, with its gradient written down instead of traced."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from softlab.labels.losses.checks import Tail
from softlab.labels.losses.compared import compare, forward_term
from softlab.labels.losses.teacher import SparseDistribution


def sparse_kl(student_BC: Tensor, teacher: SparseDistribution, *, temperature: float, tail: Tail, mean: bool) -> Tensor:
    """KL(teacher || softmax(student / T)) of each row, [B], in nats; or T^2 times its mean over rows, a scalar."""
    if tail == "bucket" and teacher.num_tail:
        kl_B = compare(student_BC, teacher, temperature=temperature, tail=tail).sum_over_classes(forward_term)
        return temperature**2 * kl_B.mean() if mean else kl_B
    kl: Tensor = SparseKL.apply(
        student_BC, teacher.class_ids_BK, teacher.log_kept_BK, teacher.log_tail_B, temperature, mean
    )
    return kl


class SparseKL(torch.autograd.Function):
    """Each class outside has an equal share of the tail, or nothing without one. In the student's logits the gradient
    is (softmax(student / T) - teacher) / T: dense minus the share, then a scatter on the kept classes. Takes two thirds
    of the time of the traced formula on 128 rows of 10 classes, where the number of operations is what costs."""

    @staticmethod
    def forward(
        ctx: Any,
        student_BC: Tensor,
        class_ids_BK: Tensor,
        log_kept_BK: Tensor,
        log_tail_B: Tensor | None,
        temperature: float,
        mean: bool,
    ) -> Tensor:
        log_q_BC = (student_BC / temperature).log_softmax(dim=1)
        log_q_BK = log_q_BC.gather(1, class_ids_BK)
        above_BK = log_kept_BK.exp()
        kl_B = (above_BK * (log_kept_BK - log_q_BK)).sum(dim=1)
        share_B1 = None
        if log_tail_B is not None:
            num_tail = student_BC.shape[1] - class_ids_BK.shape[1]
            tail_B = log_tail_B.exp()
            student_mean_B = (log_q_BC.sum(dim=1) - log_q_BK.sum(dim=1)) / num_tail
            kl_B += tail_B * (log_tail_B - math.log(num_tail) - student_mean_B)
            share_B1 = (tail_B / num_tail)[:, None]
            above_BK -= share_B1
        ctx.save_for_backward(log_q_BC, class_ids_BK, above_BK, share_B1)
        ctx.temperature, ctx.mean = temperature, mean
        return kl_B.mean() * temperature**2 if mean else kl_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        log_q_BC, class_ids_BK, above_BK, share_B1 = ctx.saved_tensors
        gradient_BC = log_q_BC.exp()
        if share_B1 is not None:
            gradient_BC -= share_B1
        gradient_BC.scatter_add_(1, class_ids_BK, -above_BK)
        scale = gradient * (ctx.temperature / len(log_q_BC)) if ctx.mean else gradient[:, None] / ctx.temperature
        return gradient_BC.mul_(scale), None, None, None, None, None
