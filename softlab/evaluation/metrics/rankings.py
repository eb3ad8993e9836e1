"""How well a model ranks the candidates of each query.

Queries without a relevant candidate tell nothing of a ranking and are left out of both means; how many are left is a
figure of its own. Not measured for a model whose scores are of other candidates than the relevance is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.ranking import has_relevant, ndcg, reciprocal_rank
from softlab.evaluation.metrics.unit import SHARE, Unit
from softlab.loading.batch import Batch

NEEDS: frozenset[Need] = frozenset({"relevance"})
SCORE = Unit(symbol="", scale=1, digits=4)


class _OfRankings:
    """Mean of a formula over the queries that have something relevant."""

    formula: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        relevance_BN = relevance_of(batch)
        if outputs.logits_BC.shape == relevance_BN.shape:
            counts_B = has_relevant(relevance_BN)
            found_B = type(self).formula(outputs.logits_BC, relevance_BN)
            self._mean.add(found_B.where(counts_B, 0.0), rows=counts_B.sum())

    def value(self) -> float | None:
        return self._mean.value()


class Ndcg(_OfRankings):
    """Gain of the first 10 candidates, relative to the best order."""

    name, label, column = "ndcg_at_10", "nDCG of the first 10 candidates", "nDCG@10"
    unit, higher_is_better = SCORE, True
    needs: frozenset[Need] = NEEDS
    formula = staticmethod(ndcg)


class Mrr(_OfRankings):
    """1 / rank of the first relevant candidate among the first 10."""

    name, label, column = "mrr_at_10", "1 / rank of the first relevant candidate, of 10", "MRR@10"
    unit, higher_is_better = SCORE, True
    needs: frozenset[Need] = NEEDS
    formula = staticmethod(reciprocal_rank)


class RankedShare:
    """Share of the queries that have a relevant candidate: those that the other figures are over."""

    name, label, column = "ranked_share", "queries with a relevant candidate", "ranked"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = NEEDS

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        relevance_BN = relevance_of(batch)
        self._mean.add(has_relevant(relevance_BN), rows=len(relevance_BN))

    def value(self) -> float | None:
        return self._mean.value()


def relevance_of(batch: Batch) -> Tensor:
    """[B, N], of the first input that tells it."""
    return next(each.relevance_BN for each in batch.inputs if each.relevance_BN is not None)
