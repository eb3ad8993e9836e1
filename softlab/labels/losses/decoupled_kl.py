"""Decoupled knowledge distillation: the target class and the other classes weighed apart."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.losses.checks import Tail, check_fit, check_tail
from softlab.labels.losses.compared import Compared, forward_term, log_outside
from softlab.labels.losses.hard import mean_over_known
from softlab.labels.losses.notes import tell
from softlab.labels.losses.teacher import LOWEST, SparseDistribution, distribution_at
from softlab.labels.losses.tempered import TemperedLoss, check_option
from softlab.labels.soft_labels import SoftLabels

TAILS: tuple[Tail, ...] = ("uniform", "renormalise")
"""In a `bucket` a target that is not kept could not be told from the classes beside it."""


def decoupled_kl_loss(
    student_logits_BC: Tensor,
    labels: SoftLabels,
    *,
    targets_B: Tensor,
    temperature: float,
    tail: Tail = "uniform",
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """T^2 * (alpha * TCKD + beta * NCKD) at temperature T, in nats, mean over rows with a known target; 0 if none is.

    A float32 scalar. Zhao et al. (2022), equation 7 (DKD): TCKD is KL(teacher || student) of the two probabilities
    (target class, all others); NCKD is KL(teacher || student) over the other classes, rescaled to sum to 1 without the
    target. alpha = 1 with beta = 1 - p(target) would be the plain KL. T^2 is applied. `targets_B` is int64, -1 where
    unknown. Tails:

    - `uniform`: each class outside has an equal share of the exact tail mass, the target too where it is not kept.
      With K = C this is the full loss.
    - `renormalise`: the teacher's kept classes are rescaled to sum to 1; a target that is not kept has probability 0.
    """
    check_fit(student_logits_BC, labels, loss="dkd")
    check_tail(tail, among=TAILS, loss="dkd")
    tell(labels, loss="dkd", temperature=temperature, tail=tail)
    teacher = distribution_at(labels, temperature=temperature, tail=tail)
    log_q_BC = (student_logits_BC.float() / temperature).log_softmax(dim=1)
    loss_B = _decoupled(log_q_BC, teacher, targets_B.clamp(min=0), alpha=alpha, beta=beta)
    return temperature**2 * mean_over_known(loss_B.where(targets_B >= 0, 0.0).sum(), targets_B)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoupledKlLoss(TemperedLoss):
    """Options of `decoupled_kl_loss` (DKD)."""

    name: ClassVar[Literal["dkd"]] = "dkd"
    needs_targets: ClassVar[bool] = True
    tails: ClassVar[tuple[Tail, ...]] = TAILS

    alpha: float = 1.0
    """Weight of the target class against all others."""

    beta: float = 8.0
    """Weight of the other classes among themselves."""

    def __post_init__(self) -> None:
        TemperedLoss.__post_init__(self)
        check_option(0 <= self.alpha < math.inf, "alpha", self.alpha, "0 or more")
        check_option(0 <= self.beta < math.inf, "beta", self.beta, "0 or more")

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        if targets_B is None:
            raise StoreMismatch(
                "dkd tells a row's target from its other classes, but there are no hard targets, or they count other "
                "classes than the store. Give a source that has them (class folders, or a Parquet file whose column of "
                "labels is named), or choose another `loss.name`."
            )
        return decoupled_kl_loss(
            student_logits_BC,
            labels,
            targets_B=targets_B,
            temperature=self.temperature_for(labels),
            tail=self.tail,
            alpha=self.alpha,
            beta=self.beta,
        )


def _decoupled(
    log_q_BC: Tensor, teacher: SparseDistribution, targets_B: Tensor, *, alpha: float, beta: float
) -> Tensor:
    """alpha * TCKD + beta * NCKD of each row, [B]."""
    log_q_target_B = log_q_BC.gather(1, targets_B[:, None])[:, 0]
    log_q_others_B1 = log_outside(log_q_BC, targets_B[:, None])
    log_p_target_B, log_p_others_B = _split(teacher, targets_B)
    target_B = forward_term(log_p_target_B, log_q_target_B) + forward_term(log_p_others_B, log_q_others_B1[:, 0])
    others = _among_others(log_q_BC - log_q_others_B1, teacher, log_p_others_B[:, None], targets_B[:, None])
    return alpha * target_B + beta * others.sum_over_classes(forward_term)


def _split(teacher: SparseDistribution, targets_B: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's log-probabilities of the target and of all other classes together; none below LOWEST."""
    is_target_BK = teacher.class_ids_BK == targets_B[:, None]
    is_kept_B = is_target_BK.any(dim=1)
    log_kept_B = teacher.log_kept_BK.masked_fill(~is_target_BK, -math.inf).amax(dim=1)
    log_others_B = teacher.log_kept_BK.masked_fill(is_target_BK, -math.inf).logsumexp(dim=1)
    if teacher.log_tail_B is not None:
        num_others_B = teacher.num_tail - (~is_kept_B).float()
        log_others_B = torch.logaddexp(log_others_B, teacher.log_share_B + num_others_B.log())
    return log_kept_B.where(is_kept_B, teacher.log_share_B), log_others_B.clamp(min=LOWEST)


def _among_others(
    log_q_BC: Tensor, teacher: SparseDistribution, log_p_others_B1: Tensor, target_B1: Tensor
) -> Compared:
    """Both distributions given that the class is not the target."""
    is_target_BK = teacher.class_ids_BK == target_B1
    return Compared(
        teacher_BK=(teacher.log_kept_BK - log_p_others_B1).masked_fill(is_target_BK, LOWEST),
        student_BK=log_q_BC.gather(1, teacher.class_ids_BK),
        teacher_rest_B1=teacher.log_share_B[:, None] - log_p_others_B1,
        student_rest_BR=None if teacher.log_tail_B is None else log_q_BC,
        skipped_BK=torch.cat([teacher.class_ids_BK, target_B1], dim=1),
    )
