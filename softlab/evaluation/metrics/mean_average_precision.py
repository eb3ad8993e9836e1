"""How well a model ranks the samples of each class before the others, where samples may be of several classes."""

# Shape letters: B rows in a batch, N rows in all, C classes.

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch


class MeanAveragePrecision:
    """The average precision of each class that some sample is of, mean over those classes.

    The average precision is the sum over thresholds of (R_n - R_(n-1)) P_n, without interpolation; rows with equal
    logits share a threshold. All logits are kept on the device until it is asked for: 4 bytes a row and class.
    """

    name, label, column = "mean_average_precision", "mean average precision", "mAP"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"label sets"})

    def __init__(self, device: torch.device) -> None:
        self._logits: list[Tensor] = []
        self._label_sets: list[Tensor] = []

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.label_sets_BC is not None
        self._logits.append(outputs.logits_BC)
        self._label_sets.append(batch.label_sets_BC)

    def value(self) -> float | None:
        if not self._logits:
            return None
        logits_NC, label_sets_NC = torch.cat(self._logits), torch.cat(self._label_sets)
        is_known_N = (label_sets_NC >= 0).all(dim=1)
        logits_NC, label_sets_NC = logits_NC[is_known_N], label_sets_NC[is_known_N]
        there = label_sets_NC.any(dim=0).nonzero()[:, 0].tolist()
        precisions = [average_precision(logits_NC[:, each], label_sets_NC[:, each] > 0) for each in there]
        return sum(precisions) / len(precisions) if precisions else None


def average_precision(scores_N: Tensor, is_there_N: Tensor) -> float:
    """Of one class, that some row is of."""
    order_N = scores_N.argsort(descending=True, stable=True)
    scores_N, found_N = scores_N[order_N], is_there_N[order_N].double().cpu().cumsum(dim=0)
    is_last_N = torch.ones(len(scores_N), dtype=torch.bool)
    is_last_N[:-1] = (scores_N[1:] != scores_N[:-1]).cpu()  # of the rows with its score
    places_N = is_last_N.nonzero()[:, 0]
    found_N = found_N[places_N]
    gained_N = found_N.diff(prepend=found_N.new_zeros(1))
    return float((gained_N * found_N / (places_N + 1)).sum() / found_N[-1])
