"""How often a teacher would accept what a model drafts."""

# Shape letters: B rows in a batch, C classes, K entries kept.

import torch
from torch import Tensor

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.labels.losses.teacher import head_log_probabilities
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.batch import Batch


class Acceptance:
    """The expected share of tokens drafted by the model that its teacher accepts in speculative sampling: the sum over
    classes of min(p, q), mean over the rows (Leviathan, Kalman, Matias 2023, theorem 3.5 and definition 3.1).

    Exact where the store keeps all classes. Else it is a lower bound, as only the kept classes count: of those outside
    a store knows no single p. Of sampled rows each class counts with its weight w in the sample in place of p. The mean
    of w over many draws is p, and that of min(w, q) is at most min(p, q), so this is a lower bound too, and exact for
    the classes that are stored exactly.
    """

    name, label, column = "acceptance", "acceptance rate as a draft model, at least", "acceptance"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"teacher", "softmax", "vocabulary", "temperature 1"})

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        labels = batch.labels
        assert labels is not None
        log_q_BK = outputs.logits_BC.gather(1, labels.class_ids_BK) - outputs.logits_BC.logsumexp(dim=1, keepdim=True)
        shared_BK = torch.minimum(_weights(labels), log_q_BK.exp() / _times_there(labels))
        self._mean.add(shared_BK.sum(dim=1), rows=len(labels))

    def value(self) -> float | None:
        return self._mean.value()


def _weights(labels: SoftLabels) -> Tensor:
    """[B, K], the probability of each entry; of sampled rows its weight, 0 of fill."""
    if labels.is_sampled:
        return (labels.logits_BK + labels.max_logit_B[:, None]).exp()
    log_tail_B = labels.log_tail_at(1.0) if labels.k < labels.num_classes else None
    return head_log_probabilities(labels, temperature=1.0, log_tail_B=log_tail_B).exp()


def _times_there(labels: SoftLabels) -> Tensor:
    """[B, K], how many entries of the row are of the same class: one that was drawn twice shares its q between them."""
    if not labels.is_sampled:
        return torch.ones_like(labels.logits_BK)
    ids_BK, is_fill_BK = labels.class_ids_BK, labels.logits_BK.isneginf()
    same_BKK = (ids_BK[:, :, None] == ids_BK[:, None, :]) & ~is_fill_BK[:, None, :]
    return same_BKK.sum(dim=2).clamp(min=1)
