"""How often the class of a row is that of its neighbours."""

# Shape letters: N rows, Q of them at a time, K neighbours of each row.

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.neighbours import KeptRows, nearest, unit_rows
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch

NEIGHBOURS = 5


class NeighbourAccuracy:
    """Share of the rows with a known target for which most of the 5 nearest other ones, by the cosine of the model's
    vectors, have the same target; of classes with equally many the one with the nearest row counts."""

    name, label, column = "neighbour_accuracy", "accuracy of the 5 nearest neighbours", "5-NN"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"targets", "values", "vectors"})

    def __init__(self, device: torch.device) -> None:
        self._kept = KeptRows()

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.targets_B is not None
        is_known_B = batch.targets_B >= 0
        rows = (batch.source_B, unit_rows(outputs.logits_BC), batch.targets_B)
        self._kept.add(*(each[is_known_B.to(each.device)] for each in rows))

    def value(self) -> float | None:
        unit_ND, targets_N = self._kept.value()
        k = min(NEIGHBOURS, len(targets_N) - 1)
        if k < 1:
            return None
        voted_N = torch.cat([_vote(targets_N[found_QK]) for found_QK in nearest(unit_ND, k=k)])
        return (voted_N == targets_N).double().mean().item()


def _vote(targets_QK: Tensor) -> Tensor:
    """The most frequent target of each row, the one that comes first among equally frequent ones."""
    num_neighbours = targets_QK.shape[1]
    votes_QK = (targets_QK[:, :, None] == targets_QK[:, None, :]).sum(dim=2)
    nearness_K = torch.arange(num_neighbours, 0, -1, device=targets_QK.device)
    best_Q1 = (votes_QK * (num_neighbours + 1) + nearness_K).argmax(dim=1, keepdim=True)
    return targets_QK.gather(1, best_Q1)[:, 0]
