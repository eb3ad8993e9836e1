"""Teacher and student side by side, for any divergence that is a sum over classes."""

# Shape letters: B rows in a batch, C classes, K entries kept, R columns that stand for the other classes.

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from softlab.labels.losses.checks import Tail
from softlab.labels.losses.teacher import LOWEST, SparseDistribution

Term = Callable[[Tensor, Tensor], Tensor]
"""From the log-probabilities of teacher and student to what a class adds to the divergence, in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Log-probabilities of teacher and student over the same classes."""

    teacher_BK: Tensor
    student_BK: Tensor
    teacher_rest_B1: Tensor
    student_rest_BR: Tensor | None
    """Each class by itself (R = C, the kept ones too), all of them together (R = 1), or None where there are none."""

    skipped_BK: Tensor | None
    """Columns of `student_rest_BR` that are kept classes."""

    is_valid_BR: Tensor | None = None
    """Which of these columns are classes of the row, where rows may have fewer than C."""

    def sum_over_classes(self, term: Term) -> Tensor:
        """float32 [B]."""
        total_B = term(self.teacher_BK, self.student_BK).sum(dim=1)
        if self.student_rest_BR is None:
            return total_B
        rest_BR = term(self.teacher_rest_B1, self.student_rest_BR)
        if self.skipped_BK is not None:
            rest_BR = rest_BR.scatter(1, self.skipped_BK, 0.0)
        if self.is_valid_BR is not None:
            rest_BR = rest_BR.masked_fill(~self.is_valid_BR, 0.0)
        return total_B + rest_BR.sum(dim=1)


def compare(student_BC: Tensor, teacher: SparseDistribution, *, temperature: float, tail: Tail) -> Compared:
    """The student's side is softmax(logits / T). Under `uniform` every class outside is compared by itself, under
    `renormalise_both` none is; otherwise all of them are one, which under `renormalise` the teacher gives nothing."""
    if tail == "renormalise_both":
        return _compare_kept(student_BC, teacher, temperature=temperature)
    log_q_BC = (student_BC.float() / temperature).log_softmax(dim=1)
    rest_BR, skipped_BK, is_valid_BC = None, None, teacher.is_valid_BC
    if teacher.num_tail and tail == "uniform":
        rest_BR, skipped_BK = log_q_BC, teacher.class_ids_BK
    elif teacher.num_tail:
        outside_BC = log_q_BC if is_valid_BC is None else log_q_BC.masked_fill(~is_valid_BC, -math.inf)
        rest_BR = log_outside(outside_BC, teacher.class_ids_BK)
        if is_valid_BC is not None:  # of a row with no more classes than are kept, nothing is outside
            rest_BR = rest_BR.masked_fill(rest_BR.isneginf(), LOWEST)
    return Compared(
        teacher_BK=teacher.log_kept_BK,
        student_BK=log_q_BC.gather(1, teacher.class_ids_BK),
        teacher_rest_B1=_log_rest(teacher, tail=tail)[:, None],
        student_rest_BR=rest_BR,
        skipped_BK=skipped_BK,
        is_valid_BR=None if skipped_BK is None else is_valid_BC,
    )


def _compare_kept(student_BC: Tensor, teacher: SparseDistribution, *, temperature: float) -> Compared:
    """The student's side is the softmax over the kept classes alone."""
    kept_BK = student_BC.float().gather(1, teacher.class_ids_BK) / temperature
    is_valid_BC = teacher.is_valid_BC
    if is_valid_BC is not None:  # a row with fewer classes than K has others in the places that are left
        kept_BK = kept_BK.masked_fill(~is_valid_BC.gather(1, teacher.class_ids_BK), -math.inf)
    student_BK = kept_BK.log_softmax(dim=1)
    return Compared(
        teacher_BK=teacher.log_kept_BK,
        student_BK=student_BK.masked_fill(student_BK.isneginf(), LOWEST),
        teacher_rest_B1=teacher.log_share_B[:, None],
        student_rest_BR=None,
        skipped_BK=None,
    )


def _log_rest(teacher: SparseDistribution, *, tail: Tail) -> Tensor:
    return teacher.log_tail_B if tail == "bucket" and teacher.log_tail_B is not None else teacher.log_share_B


def log_outside(log_q_BC: Tensor, class_ids_BK: Tensor) -> Tensor:
    """Log-probability outside the given classes, [B, 1]; summed itself, as 1 - sum(given) loses small ones."""
    return log_q_BC.scatter(1, class_ids_BK, -math.inf).logsumexp(dim=1, keepdim=True)


def forward_term(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Of KL(teacher || student)."""
    return log_p.exp() * (log_p - log_q)


def reverse_term(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Of KL(student || teacher)."""
    return log_q.exp() * (log_q - log_p)
