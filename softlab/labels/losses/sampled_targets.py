"""Hard targets as one more entry of sampled rows: both terms of a loss from one pass over the logits, not from two."""

# Shape letters: B rows in a batch, K entries.

import math
from dataclasses import replace

import torch
from torch import Tensor

from softlab.labels.losses.hard import UNKNOWN_TARGET
from softlab.labels.soft_labels import SoftLabels


def with_targets(labels: SoftLabels, targets_B: Tensor, *, alpha: float) -> SoftLabels:
    """Rows whose kl, mean over all of them, is alpha times that of these sampled ones and 1 - alpha times the
    cross-entropy with int64 targets, mean over the rows whose target is known (not -1). `alpha` is between 0 and 1."""
    assert labels.entropy_B is not None, "they are sampled"
    is_known_B = targets_B != UNKNOWN_TARGET
    weight_B = is_known_B * ((1 - alpha) * len(labels) / is_known_B.sum().clamp(min=1))
    log_weight_B = weight_B.log() - labels.max_logit_B
    return replace(
        labels,
        class_ids_BK=torch.cat([labels.class_ids_BK, targets_B.clamp(min=0)[:, None]], dim=1),
        logits_BK=torch.cat([labels.logits_BK + math.log(alpha), log_weight_B[:, None]], dim=1),
        entropy_B=alpha * labels.entropy_B,
        block=None,
    )
