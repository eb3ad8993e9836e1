"""What a student is trained on: distillation from the store, mixed with cross-entropy on hard targets."""

# Shape letters: B rows in a batch, C classes.

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import StoreMismatch
from softlab.labels.losses import Tail, distillation_loss
from softlab.loading.batches import Batch

UNKNOWN_TARGET = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """alpha * T^2 KL(teacher || student) + (1 - alpha) * cross-entropy."""

    alpha: float
    temperature: float
    tail: Tail

    def __call__(self, student_logits_BC: Tensor, batch: Batch) -> Tensor:
        """A float32 scalar, in nats, mean over rows. Raises StoreMismatch for a batch without what alpha asks for."""
        loss = torch.zeros((), device=student_logits_BC.device)
        if self.alpha > 0:
            assert batch.labels is not None, "a run with alpha > 0 has a store"
            distillation = distillation_loss(
                student_logits_BC, batch.labels, temperature=self.temperature, tail=self.tail
            )
            loss = loss + self.alpha * distillation
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * hard_loss(student_logits_BC, batch)
        return loss


HARD_TARGETS = Objective(alpha=0.0, temperature=1.0, tail="uniform")
"""The baseline: plain cross-entropy."""


def hard_loss(student_logits_BC: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy, mean over the rows whose target is known; 0 if none is. A mixed view has two targets, each with
    its share (Zhang et al. 2018, equation 1; Yun et al. 2019, equation 1)."""
    if batch.targets_B is None:
        raise StoreMismatch(
            "there are no hard targets to learn, or they count other classes than the store. Name the column that "
            "holds them (--source-label-column), or train on a store's labels alone (--alpha 1, without --baseline)."
        )
    if batch.mixed is None:
        total, weight = _cross_entropy(student_logits_BC, batch.targets_B, None)
    else:
        own_B, targets_B = batch.mixed.weights_B, batch.mixed.targets_B
        total, weight = _cross_entropy(student_logits_BC, batch.targets_B, own_B)
        partner_total, partner_weight = _cross_entropy(student_logits_BC, targets_B, 1 - own_B)
        total, weight = total + partner_total, weight + partner_weight
    return total / weight.clamp(min=1e-6)


def _cross_entropy(student_logits_BC: Tensor, targets_B: Tensor, weights_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum over the rows whose target is known, and the weight of these rows."""
    is_known_B = targets_B != UNKNOWN_TARGET
    if weights_B is None:
        total = functional.cross_entropy(
            student_logits_BC.float(), targets_B, ignore_index=UNKNOWN_TARGET, reduction="sum"
        )
        return total, is_known_B.sum()
    losses_B = functional.cross_entropy(
        student_logits_BC.float(), targets_B, ignore_index=UNKNOWN_TARGET, reduction="none"
    )
    return (weights_B * losses_B).sum(), (weights_B * is_known_B).sum()
