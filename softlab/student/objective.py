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
    """Cross-entropy, mean over the rows whose target is known; 0 if none is."""
    if batch.targets_B is None:
        raise StoreMismatch(
            "there are no hard targets to learn, or they count other classes than the store. Name the column that "
            "holds them (--source-label-column), or train on a store's labels alone (--alpha 1, without --baseline)."
        )
    total = functional.cross_entropy(
        student_logits_BC.float(), batch.targets_B, ignore_index=UNKNOWN_TARGET, reduction="sum"
    )
    return total / (batch.targets_B != UNKNOWN_TARGET).sum().clamp(min=1)
