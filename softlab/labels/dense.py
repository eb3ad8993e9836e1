"""Stored labels as one number a class, for those who compute with nothing else."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), W bytes of a row.

import torch
from torch import Tensor

from softlab.labels.bits import unpack_bits
from softlab.labels.losses.teacher import head_log_probabilities
from softlab.labels.soft_labels import SoftLabels


def dense_probabilities(labels: SoftLabels, *, temperature: float = 1.0) -> Tensor:
    """float32 [B, C]: the kept classes have what they have, and the others share the tail equally.

    Rows sum to 1 under a softmax head; under a sigmoid head each class has a probability of its own. Classes that a row
    doesn't have are 0. With K = C nothing is shared, and these are the teacher's own probabilities. Raises
    InvalidOption below the lowest stored temperature.
    """
    log_tail_B = labels.log_tail_at(temperature)
    if labels.head == "sigmoid":
        kept_BK = ((labels.logits_BK + labels.max_logit_B[:, None]) / temperature).sigmoid()
        shared_B = log_tail_B.exp()  # a mean already
    else:
        kept_BK = head_log_probabilities(labels, temperature=temperature, log_tail_B=log_tail_B).exp()
        shared_B = log_tail_B.exp() / labels.num_tail_B.clamp(min=1)
    dense_BC = shared_B[:, None].expand(-1, labels.num_classes).contiguous()
    if labels.valid_B is not None:
        dense_BC = dense_BC.masked_fill(~_valid(labels), 0.0)
    return dense_BC.scatter(1, labels.class_ids_BK, kept_BK)


def _valid(labels: SoftLabels) -> Tensor:
    """bool [B, C], which classes each row has."""
    assert labels.valid_B is not None, "whoever asks has looked"
    if labels.valid_bits_BW is not None:
        return unpack_bits(labels.valid_bits_BW, num_classes=labels.num_classes)
    return torch.arange(labels.num_classes, device=labels.valid_B.device) < labels.valid_B[:, None]
