"""DIST: the student's probabilities need to correlate with the teacher's, row by row and class by class."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm

from softlab.labels.losses.checks import Tail, check_fit, check_tail
from softlab.labels.losses.notes import tell
from softlab.labels.losses.teacher import distribution_at
from softlab.labels.losses.tempered import TemperedLoss, check_option
from softlab.labels.soft_labels import SoftLabels

TAILS: tuple[Tail, ...] = ("uniform", "renormalise")
"""A `bucket` differs from row to row, so no class would have a column."""

EPSILON = 1e-8


def dist_loss(
    student_logits_BC: Tensor,
    labels: SoftLabels,
    *,
    temperature: float,
    tail: Tail = "uniform",
    inter: float = 1.0,
    intra: float = 1.0,
) -> Tensor:
    """T^2 * (inter * (1 - mean correlation of rows) + intra * (1 - mean correlation of columns)); a float32 scalar.

    Huang et al. (2022), the losses L_inter and L_intra with weights beta and gamma: Pearson's correlations between the
    student's and the teacher's softmax(logits / T), over the C classes of a row (inter-class), and over the B rows of
    the batch for each class (intra-class). Without a unit, 0 at best. 1e-8 is added to each product of norms and T^2 is
    applied, as in the authors' code. Only as good as the batch is large: in one row no class correlates. Tails:

    - `uniform`: each class outside has an equal share of the exact tail mass. With K = C this is the full loss.
    - `renormalise`: the kept classes are rescaled to sum to 1, and the teacher gives the others 0.
    """
    check_fit(student_logits_BC, labels, loss="dist")
    check_tail(tail, among=TAILS, loss="dist")
    tell(labels, loss="dist", temperature=temperature, tail=tail)
    distribution = distribution_at(labels, temperature=temperature, tail=tail)
    teacher = _Probabilities(
        class_ids_BK=labels.class_ids_BK,
        kept_BK=distribution.log_kept_BK.exp(),
        share_B=distribution.log_share_B.exp(),
        num_classes=labels.num_classes,
    )
    student_BC = (student_logits_BC.float() / temperature).softmax(dim=1)
    rows_B, columns_C = _row_correlations(student_BC, teacher), _column_correlations(student_BC, teacher)
    return temperature**2 * (inter * (1 - rows_B.mean()) + intra * (1 - columns_C.mean()))


@dataclass(frozen=True, kw_only=True, slots=True)
class DistLoss(TemperedLoss):
    """Options of `dist_loss`."""

    name: ClassVar[Literal["dist"]] = "dist"
    tails: ClassVar[tuple[Tail, ...]] = TAILS

    inter: float = 1.0
    """Weight of the correlation over the classes of a row."""

    intra: float = 1.0
    """Weight of the correlation over the rows of a batch."""

    def __post_init__(self) -> None:
        TemperedLoss.__post_init__(self)
        check_option(0 <= self.inter < math.inf, "inter", self.inter, "0 or more")
        check_option(0 <= self.intra < math.inf, "intra", self.intra, "0 or more")

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return dist_loss(
            student_logits_BC,
            labels,
            temperature=self.temperature_for(labels),
            tail=self.tail,
            inter=self.inter,
            intra=self.intra,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Probabilities:
    """The teacher's probability matrix: each row has its share everywhere but in K places."""

    class_ids_BK: Tensor
    kept_BK: Tensor
    share_B: Tensor
    num_classes: int

    def sum_by_class(self, values_BK: Tensor) -> Tensor:
        """Sums over the rows that keep a class, [C]."""
        return values_BK.new_zeros(self.num_classes).index_add(0, self.class_ids_BK.flatten(), values_BK.flatten())


def _row_correlations(student_BC: Tensor, teacher: _Probabilities) -> Tensor:
    """[B]. The mean of a row is 1 / C."""
    mean = 1 / teacher.num_classes
    student_BC = student_BC - mean
    kept_BK, share_B = teacher.kept_BK - mean, teacher.share_B - mean
    covariance_B = (kept_BK * student_BC.gather(1, teacher.class_ids_BK)).sum(dim=1)
    covariance_B = covariance_B + share_B * student_BC.scatter(1, teacher.class_ids_BK, 0.0).sum(dim=1)
    num_tail = teacher.num_classes - kept_BK.shape[1]
    squares_B = (kept_BK**2).sum(dim=1) + num_tail * share_B**2
    return _correlations(covariance_B, student_BC, squares_B, dim=1)


def _column_correlations(student_BC: Tensor, teacher: _Probabilities) -> Tensor:
    """[C]. Sums over the rows that don't keep a class are those over all rows less those over the rows that do; shares
    are taken relative to their mean first, so that these differences keep their digits."""
    mean_share = teacher.share_B.mean()
    share_B1 = (teacher.share_B - mean_share)[:, None]
    num_rest_C = len(student_BC) - teacher.sum_by_class(torch.ones_like(teacher.kept_BK))
    rest_sum_C = share_B1.sum() - teacher.sum_by_class(share_B1.expand_as(teacher.kept_BK))
    mean_C = (teacher.sum_by_class(teacher.kept_BK) + num_rest_C * mean_share + rest_sum_C) / len(student_BC)
    kept_BK, offset_C = teacher.kept_BK - mean_C[teacher.class_ids_BK], mean_share - mean_C

    rest_squares_C = (share_B1**2).sum() - teacher.sum_by_class((share_B1**2).expand_as(kept_BK))
    rest_squares_C = rest_squares_C + offset_C * (2 * rest_sum_C + num_rest_C * offset_C)
    squares_C = teacher.sum_by_class(kept_BK**2) + rest_squares_C

    student_BC = student_BC - student_BC.mean(dim=0)
    rest_BC = student_BC.scatter(1, teacher.class_ids_BK, 0.0)
    rest_covariance_C = (share_B1 * rest_BC).sum(dim=0) + offset_C * rest_BC.sum(dim=0)
    kept_covariance_C = teacher.sum_by_class(kept_BK * student_BC.gather(1, teacher.class_ids_BK))
    return _correlations(kept_covariance_C + rest_covariance_C, student_BC, squares_C, dim=0)


def _correlations(covariance: Tensor, student_BC: Tensor, squares: Tensor, *, dim: int) -> Tensor:
    norms: Tensor = vector_norm(student_BC, dim=dim) * squares.clamp(min=0).sqrt()
    return covariance / (norms + EPSILON)
