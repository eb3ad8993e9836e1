"""Soft labels of a teacher that tells the probabilities of its likeliest classes and nothing else."""

# Shape letters: B rows in a batch, C classes, K entries of a row.

import math

import torch
from torch import Tensor

from softlab.labels.soft_labels import SoftLabels


def labels_of_given(class_ids_BK: Tensor, log_probabilities_BK: Tensor, *, num_classes: int) -> SoftLabels:
    """Of the K likeliest classes, largest first, and their log-probabilities among all C.

    What the others have together follows at T = 1, as 1 less the sum, computed in float64; at no other temperature, for
    that hangs on how they share it. Logits are relative to the largest; of their level nothing is known.
    """
    log_p_BK = log_probabilities_BK.double()
    log_tail_B = torch.full_like(log_p_BK[:, 0], -math.inf)
    if class_ids_BK.shape[1] < num_classes:
        log_tail_B = torch.log1p(-log_p_BK.exp().sum(dim=1).clamp(max=1.0))
    return SoftLabels(
        class_ids_BK=class_ids_BK.long(),
        logits_BK=(log_p_BK - log_p_BK[:, :1]).float(),
        log_tail_BT=log_tail_B.float()[:, None],
        max_logit_B=log_p_BK[:, 0].float(),
        temperatures=(1.0,),
        num_classes=num_classes,
        absolute=False,
        interpolates=False,
    )
