"""Several outputs of the same samples as rows, one sample behind the other."""

# Shape letters: B samples, S outputs, R = B * S rows, C classes.

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from softlab.labels.origin import Origin
from softlab.labels.soft_labels import SoftLabels, join_labels

LOWEST_LOGIT = -1e4
"""Of a class that a row doesn't have: its probability is 0, and no loss multiplies 0 by infinity."""


def in_turn(parts: Sequence[SoftLabels], *, origin: Origin | None = None) -> SoftLabels:
    """Of S outputs of B samples: the S rows of the first sample, those of the second, .."""
    whole, count = join_labels(parts), len(parts[0])
    order_R = torch.arange(len(parts) * count, device=whole.class_ids_BK.device).view(len(parts), count).T.flatten()
    counts_B = torch.full((count,), len(parts))
    return replace(whole.with_each(lambda tensor: tensor[order_R]), counts_B=counts_B, origin=origin)


def finite_logits(logits_RC: Tensor, labels: SoftLabels | None) -> Tensor:
    """A student's logits, which are -inf for classes that a row doesn't have, as losses take them.

    A class that the teacher has seen and the student hasn't, as its text was cut off earlier, is as unlikely as the
    least likely one that it has; nothing is learnt by that.
    """
    is_none_RC = logits_RC.isneginf()
    found_RC = logits_RC.masked_fill(is_none_RC, LOWEST_LOGIT)
    if labels is None or labels.valid_B is None:
        return found_RC
    least_R1 = logits_RC.detach().masked_fill(is_none_RC, math.inf).amin(dim=1, keepdim=True)
    class_ids_C = torch.arange(logits_RC.shape[1], device=logits_RC.device)
    is_unseen_RC = is_none_RC & (class_ids_C < labels.valid_B[:, None])
    return torch.where(is_unseen_RC, least_R1.to(found_RC.dtype), found_RC)
