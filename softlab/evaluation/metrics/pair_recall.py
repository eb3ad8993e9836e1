"""How often the two halves of a pair find each other."""

# Shape letters: N pairs, Q of them at a time, D numbers of a vector.

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.neighbours import CHUNK_NUMBERS, KeptRows, unit_rows
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch


class PairRecall:
    """Share of the pairs whose second half is nearer to the first, by the cosine, than that of any other pair, and the
    same from the second half to the first: the mean of both (recall at 1). Where halves are equally near, all of them
    count as found. Of more than 10,000 pairs some are looked at, as for neighbours. Not measured for a model that gives
    no two vectors a sample."""

    name, label, column = "pair_recall_at_1", "halves of pairs that find each other first", "recall@1"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"teacher values", "pairs"})

    def __init__(self, device: torch.device) -> None:
        self._kept = KeptRows()
        self._is_measured = True

    def add(self, outputs: Outputs, batch: Batch) -> None:
        if outputs.logits_BC.ndim != 3 or outputs.logits_BC.shape[1] != 2:
            self._is_measured = False
            return
        first, second = (unit_rows(outputs.logits_BC[:, half]) for half in range(2))
        self._kept.add(batch.source_B, first, second)

    def value(self) -> float | None:
        if not self._is_measured:
            return None
        first_ND, second_ND = self._kept.value()
        if len(first_ND) < 2:
            return None
        return (_recall(first_ND, second_ND) + _recall(second_ND, first_ND)) / 2


def _recall(queries_ND: Tensor, found_ND: Tensor) -> float:
    hits, size = [], max(CHUNK_NUMBERS // len(found_ND), 1)
    for start in range(0, len(queries_ND), size):
        near_QN = queries_ND[start : start + size] @ found_ND.T
        own_Q = near_QN.diagonal(offset=start)
        hits.append(own_Q >= near_QN.max(dim=1).values)
    return torch.cat(hits).double().mean().item()
