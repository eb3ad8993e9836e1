"""What soft labels say at one temperature: a distribution, still sparse."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from softlab.labels.bits import unpack_bits
from softlab.labels.coding import LARGEST_FLOAT16
from softlab.labels.losses.checks import DROPS_TAIL, Tail
from softlab.labels.losses.log_softmax import log_softmax_rows
from softlab.labels.soft_labels import SoftLabels

LOWEST = -LARGEST_FLOAT16
"""Nats; stands for log 0. float16 stores nothing below it; its probability is 0 in float32, and its products finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseDistribution:
    """Log-probabilities of the kept classes, and of all other classes together; none below LOWEST."""

    class_ids_BK: Tensor
    log_kept_BK: Tensor
    log_tail_B: Tensor | None
    """None where no class is outside, or where those that are get dropped (`DROPS_TAIL`)."""

    num_tail: int
    """C - K."""

    valid_B: Tensor | None = None
    """Of the soft labels: how many classes each row has, where they may be fewer than C."""

    valid_bits_BW: Tensor | None = None
    """Likewise: which ones, where they aren't the first ones."""

    @property
    def is_valid_BC(self) -> Tensor | None:
        """bool, the classes that each row has; None where all have all."""
        num_classes = self.num_tail + self.class_ids_BK.shape[1]
        if self.valid_bits_BW is not None:
            return unpack_bits(self.valid_bits_BW, num_classes=num_classes)
        if self.valid_B is None:
            return None
        return torch.arange(num_classes, device=self.valid_B.device) < self.valid_B[:, None]

    @property
    def log_share_B(self) -> Tensor:
        """Log-probability of each class outside, if they share the tail equally; LOWEST without a tail."""
        if self.log_tail_B is None:
            return torch.full_like(self.log_kept_BK[:, 0], LOWEST)
        if self.valid_B is None:
            return self.log_tail_B - math.log(self.num_tail)
        return self.log_tail_B - self.num_tail_B.log()

    @property
    def num_tail_B(self) -> Tensor:
        """float32 [B], by how many classes the tail is shared; 1 where it has none, so that it can divide."""
        if self.valid_B is None:
            return torch.full_like(self.log_kept_BK[:, 0], max(self.num_tail, 1))
        return (self.valid_B - self.log_kept_BK.shape[1]).clamp(min=1).to(self.log_kept_BK.dtype)


def distribution_at(labels: SoftLabels, *, temperature: float, tail: Tail) -> SparseDistribution:
    """softmax(logits / T) of the teacher, its tail exact at a stored temperature."""
    num_tail = labels.num_classes - labels.k
    log_tail_B = labels.log_tail_at(temperature) if num_tail and tail not in DROPS_TAIL else None
    log_kept_BK = head_log_probabilities(labels, temperature=temperature, log_tail_B=log_tail_B)
    return SparseDistribution(
        class_ids_BK=labels.class_ids_BK,
        log_kept_BK=log_kept_BK.clamp(min=LOWEST),
        log_tail_B=None if log_tail_B is None else log_tail_B.clamp(min=LOWEST),
        num_tail=num_tail,
        valid_B=labels.valid_B,
        valid_bits_BW=labels.valid_bits_BW,
    )


def head_log_probabilities(labels: SoftLabels, *, temperature: float, log_tail_B: Tensor | None) -> Tensor:
    """The teacher's log-probabilities of the kept classes, float32 [B, K]; rescaled to sum to 1 if no tail is given.
    Raises StoreMismatch of labels that are samples."""
    labels.check_kept_largest("a class's probability")
    head_BK = log_softmax_rows(labels.logits_BK / temperature)
    if log_tail_B is None:
        return head_BK
    return head_BK + torch.log(-torch.expm1(log_tail_B))[:, None]
