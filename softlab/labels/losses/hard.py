"""Losses on one class a row: the teacher's largest logit, or a hard target."""

# Shape letters: B rows in a batch, C classes.

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from softlab.labels.losses.checks import check_fit
from softlab.labels.losses.tempered import check_option
from softlab.labels.soft_labels import Head, SoftLabels

UNKNOWN_TARGET = -1


def argmax_loss(student_logits_BC: Tensor, labels: SoftLabels) -> Tensor:
    """-log softmax(student)[teacher's argmax], in nats, mean over rows; a float32 scalar.

    Pseudo-labels (Lee 2013): the control that shows what the rest of a soft label is worth. No temperature, no T^2, no
    tail.
    """
    check_fit(student_logits_BC, labels, loss="argmax")
    return functional.cross_entropy(student_logits_BC.float(), labels.class_ids_BK[:, 0])


def hinge_loss(student_logits_BC: Tensor, labels: SoftLabels, *, margin: float = 1.0) -> Tensor:
    """The sum over classes c other than y of max(0, margin - s_y + s_c), over C, mean over rows; a float32 scalar.

    y is the teacher's argmax, s the student's logits. The multi-class hinge of Weston and Watkins (1999), which adds up
    all violations (Crammer and Singer's takes the worst), divided by C as torch's multi_margin_loss divides it. In
    logits. No temperature, no T^2, no tail.
    """
    check_fit(student_logits_BC, labels, loss="hinge")
    student_BC, leader_B1 = student_logits_BC.float(), labels.class_ids_BK[:, :1]
    violation_BC = (margin - student_BC.gather(1, leader_B1) + student_BC).relu()  # torch's own can't be compiled
    return violation_BC.scatter(1, leader_B1, 0.0).sum(dim=1).mean() / labels.num_classes


@dataclass(frozen=True, kw_only=True, slots=True)
class ArgmaxLoss:
    """`argmax_loss`, which has no options."""

    name: ClassVar[Literal["argmax"]] = "argmax"
    head: ClassVar[Head | None] = "softmax"
    needs_targets: ClassVar[bool] = False
    needs_level: ClassVar[bool] = False

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return argmax_loss(student_logits_BC, labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class HingeLoss:
    """Options of `hinge_loss`."""

    name: ClassVar[Literal["hinge"]] = "hinge"
    head: ClassVar[Head | None] = "softmax"
    needs_targets: ClassVar[bool] = False
    needs_level: ClassVar[bool] = False

    margin: float = 1.0
    """By how much the teacher's class should lead, in logits."""

    def __post_init__(self) -> None:
        check_option(0 < self.margin < math.inf, "margin", self.margin, "a positive number")

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return hinge_loss(student_logits_BC, labels, margin=self.margin)


def hard_cross_entropy(
    student_logits_BC: Tensor,
    targets_B: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights_C: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with int64 targets, in nats, mean over the rows whose target is known (not -1), 0 if none is.

    A float32 scalar. With label smoothing a the target distribution is (1 - a) * one-hot + a / C (Szegedy et al. 2016,
    section 7). With class weights, float32 [C], each row counts as much as its target's weight. No temperature, no T^2.
    """
    mean = functional.cross_entropy(
        student_logits_BC.float(),
        targets_B,
        weight=class_weights_C,
        ignore_index=UNKNOWN_TARGET,
        label_smoothing=label_smoothing,
    )
    counts_B = (targets_B != UNKNOWN_TARGET).float()
    if class_weights_C is not None:
        counts_B = counts_B * class_weights_C[targets_B.clamp(min=0)]
    return mean.where(counts_B.any(), 0.0)


def multi_label_cross_entropy(student_logits_BC: Tensor, label_sets_BC: Tensor) -> Tensor:
    """Binary cross-entropy with label sets of 0 and 1, in nats, mean over classes and over the rows whose labels are
    known (not -1), 0 if none is; a float32 scalar. No temperature, no T^2."""
    is_known_B = (label_sets_BC >= 0).all(dim=1)
    wanted_BC = label_sets_BC.clamp(min=0).float()
    losses_BC = functional.binary_cross_entropy_with_logits(student_logits_BC.float(), wanted_BC, reduction="none")
    return (losses_BC.mean(dim=1) * is_known_B).sum() / is_known_B.sum().clamp(min=1)


def mean_over_known(total: Tensor, targets_B: Tensor) -> Tensor:
    """A total over the rows with a known target becomes their mean; 0 if there are none."""
    return total / (targets_B != UNKNOWN_TARGET).sum().clamp(min=1)
