"""How sure teachers are of each row, from what is stored of them: no teacher runs."""

# Shape letters: B rows in a batch, S teachers, K entries kept.

from collections.abc import Sequence

import torch
from torch import Tensor

from softlab.labels.ensembles import combine, weigh
from softlab.labels.losses.teacher import distribution_at
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.told import already_told


def one_teacher(labels: Sequence[SoftLabels], *, given: Sequence[float]) -> SoftLabels:
    """Of several teachers, the weighted mean of their probabilities at temperature 1. Raises as `combine`."""
    if len(labels) == 1:
        return labels[0]
    with already_told():
        return combine(labels, weigh(labels, given=given, by="given"), by="probabilities", temperature=1.0)


def sureness(labels: SoftLabels) -> dict[str, Tensor]:
    """The figures of a rule, float64 [B] each, at temperature 1.

    The tail is taken to be shared equally by the classes that are not kept: then the entropy is the largest that it can
    be, and exact where all classes are kept. Under a sigmoid head the probabilities are those of single classes, and
    the entropy is the sum of theirs. Raises InvalidOption for a tail that isn't known at temperature 1.
    """
    with already_told():
        kept_BK, log_tail_B, num_tail_B = _probabilities(labels)
    largest_B = kept_BK[:, 0]
    second_B = kept_BK[:, 1] if labels.k > 1 else torch.zeros_like(largest_B)
    tail_B = log_tail_B.exp()
    if labels.head == "sigmoid":
        entropy_B = _binary_entropy(kept_BK).sum(dim=1) + num_tail_B * _binary_entropy(tail_B)
    else:
        share_B = tail_B / num_tail_B.clamp(min=1)
        entropy_B = -torch.xlogy(kept_BK, kept_BK).sum(dim=1) - torch.xlogy(tail_B, share_B)
    return {"max_prob": largest_B, "margin": largest_B - second_B, "entropy": entropy_B}


def agreement(labels: Sequence[SoftLabels]) -> Tensor:
    """Whether all teachers have the same largest class, bool [B]."""
    first_SB = torch.stack([each.class_ids_BK[:, 0] for each in labels])
    return (first_SB == first_SB[0]).all(dim=0)


def _probabilities(labels: SoftLabels) -> tuple[Tensor, Tensor, Tensor]:
    """Of the kept classes, the log of what is outside as `log_tail_BT` means it, and how many classes are there."""
    num_tail_B = labels.num_tail_B.double()
    if labels.head == "sigmoid":
        kept_BK = (labels.logits_BK.double() + labels.max_logit_B.double()[:, None]).sigmoid()
        return kept_BK, labels.log_tail_at(1.0).double(), num_tail_B
    found = distribution_at(labels, temperature=1.0, tail="uniform")
    log_tail_B = labels.log_tail_at(1.0) if found.log_tail_B is None else found.log_tail_B
    return found.log_kept_BK.double().exp(), log_tail_B.double(), num_tail_B


def _binary_entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities) - torch.xlogy(1 - probabilities, 1 - probabilities)
