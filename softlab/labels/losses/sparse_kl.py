"""KL of a sparse teacher's distribution against a student's."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math

import torch
from torch import Tensor

from softlab.labels.losses.checks import Tail
from softlab.labels.losses.closed_form import ClosedForm, attach, log_softmax_rows
from softlab.labels.losses.compared import compare, forward_term
from softlab.labels.losses.teacher import SparseDistribution


def sparse_kl(student_BC: Tensor, teacher: SparseDistribution, *, temperature: float, tail: Tail) -> Tensor:
    """T^2 * KL(teacher || softmax(student / T)), in nats, mean over rows; a scalar."""
    if tail == "bucket" and teacher.num_tail:
        return temperature**2 * sparse_kl_rows(student_BC, teacher, temperature=temperature, tail=tail).mean()
    return attach(student_BC, sparse_kl_term(student_BC, teacher, temperature=temperature))


def sparse_kl_rows(student_BC: Tensor, teacher: SparseDistribution, *, temperature: float, tail: Tail) -> Tensor:
    """KL(teacher || softmax(student / T)) of each row, [B], in nats."""
    return compare(student_BC, teacher, temperature=temperature, tail=tail).sum_over_classes(forward_term)


@torch.no_grad()
def sparse_kl_term(
    student_BC: Tensor, teacher: SparseDistribution, *, temperature: float, weight: float = 1.0
) -> ClosedForm:
    """weight * T^2 * KL, mean over rows; each class outside has an equal share of the tail, or nothing without one.

    In the student's logits the gradient of KL is (softmax(student / T) - teacher) / T: dense minus the share, then a
    scatter on the kept classes.
    """
    log_q_BC = log_softmax_rows(student_BC / temperature)
    log_q_BK = log_q_BC.gather(1, teacher.class_ids_BK)
    below_BK = -teacher.log_kept_BK.exp()  # what the gradient loses at the kept classes
    total = -torch.dot(below_BK.flatten(), (teacher.log_kept_BK - log_q_BK).flatten())
    share_B1 = None
    if teacher.log_tail_B is not None:
        tail_B = teacher.log_tail_B.exp()
        student_mean_B = (log_q_BC.sum(dim=1) - log_q_BK.sum(dim=1)) / teacher.num_tail
        total = total + torch.dot(tail_B, teacher.log_tail_B - math.log(teacher.num_tail) - student_mean_B)
        share_B1 = (tail_B / teacher.num_tail)[:, None]
        below_BK += share_B1
    gradient_BC = log_q_BC.exp_()
    if share_B1 is not None:
        gradient_BC -= share_B1
    gradient_BC.scatter_add_(1, teacher.class_ids_BK, below_BK)
    scale = weight * temperature / len(student_BC)
    return ClosedForm(total * (scale * temperature), gradient_BC.mul_(scale))
