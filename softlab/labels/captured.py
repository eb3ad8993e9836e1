"""How much of the teacher's probability is in the classes that were kept."""

# Shape letters: B rows in a batch, K entries kept, T temperatures.

import math

import torch
from torch import Tensor
from torch.nn import functional

from softlab.labels.soft_labels import SoftLabels


def captured_mass(labels: SoftLabels) -> Tensor:
    """float64 [B, T], what the kept classes have of the probability of all; from logs, so that neither a tiny tail nor
    classes that are all improbable are rounded away."""
    log_tail_BT = labels.log_tail_BT.double()
    if labels.head == "softmax":
        return -torch.expm1(log_tail_BT)
    raw_BK = labels.logits_BK.double() + labels.max_logit_B.double()[:, None]
    log_kept = [functional.logsigmoid(raw_BK / t).logsumexp(dim=1) for t in labels.temperatures]
    num_tail = max(labels.num_classes - labels.k, 1)
    return (torch.stack(log_kept, dim=1) - log_tail_BT - math.log(num_tail)).sigmoid()


def confidence(labels: SoftLabels, *, temperature: float) -> Tensor:
    """float64 [B], the probability of the most probable class, at a temperature that is stored."""
    if labels.head == "sigmoid":
        return (labels.max_logit_B.double() / temperature).sigmoid()
    labels.check_kept_largest("a class's probability")
    head_B = -torch.expm1(labels.log_tail_at(temperature).double())
    return head_B / (labels.logits_BK.double() / temperature).exp().sum(dim=1)
