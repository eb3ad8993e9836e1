"""Losses on one class a row: the teacher's largest logit, or a hard target."""

# Shape letters: B rows in a batch, C classes.

from torch import Tensor
from torch.nn import functional

from softlab.labels.losses.checks import check_fit
from softlab.labels.soft_labels import SoftLabels

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


def hard_cross_entropy(student_logits_BC: Tensor, targets_B: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with int64 targets, in nats, mean over the rows whose target is known (not -1), 0 if none is.

    A float32 scalar. With label smoothing a the target distribution is (1 - a) * one-hot + a / C (Szegedy et al. 2016,
    section 7). No temperature, no T^2.
    """
    mean = functional.cross_entropy(
        student_logits_BC.float(), targets_B, ignore_index=UNKNOWN_TARGET, label_smoothing=label_smoothing
    )
    return mean.where((targets_B != UNKNOWN_TARGET).any(), 0.0)


def mean_over_known(total: Tensor, targets_B: Tensor) -> Tensor:
    """A total over the rows with a known target becomes their mean; 0 if there are none."""
    return total / (targets_B != UNKNOWN_TARGET).sum().clamp(min=1)
