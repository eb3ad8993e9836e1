"""Scores of a query's candidates as the logits of one row.

The candidates of a query are the classes of its row, and a query that has fewer than others has a row with fewer
classes: its last ones are -inf, as `dump.valid` knows them. So store, selection, tails and losses need nothing new:
`kl` is then the listwise KL between two softmaxes over the candidates (ListNet: Cao et al. 2007, here with a teacher's
scores), `hinge` and `argmax` know the teacher's first candidate alone, and scores of equally many candidates stored as
values are what `margin_mse` compares. A loss over vectors of queries and candidates would need both in every batch, and
a store of both.
"""

# Shape letters: B queries in a batch, N candidates of the one that has most, L tokens of the longest text, R candidates
# of all queries, D numbers of a vector.

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

VectorsOf = Callable[[Tensor, Tensor], Tensor]
"""From token ids and their mask, [R, L] each, to vectors [R, D]."""


def score_candidates(
    vectors_of: VectorsOf, ids_BL: Tensor, mask_BL: Tensor, candidate_ids_BNL: Tensor, candidate_mask_BNL: Tensor
) -> Tensor:
    """[B, N]: dot products of the vector of each query and those of its candidates; -inf where a query has no
    candidate. Places without one are never given to the model."""
    is_there_BN = candidate_mask_BNL.any(dim=2)
    queries_BD = vectors_of(ids_BL, mask_BL)
    candidates_RD = vectors_of(candidate_ids_BNL[is_there_BN], candidate_mask_BNL[is_there_BN])
    of_query_R = is_there_BN.nonzero()[:, 0]
    return spread_scores((queries_BD[of_query_R] * candidates_RD).sum(dim=1), is_there_BN)


def score_pairs(logits_of: Callable[..., Tensor], named: Mapping[str, Tensor]) -> Tensor:
    """[B, N]: what a model gives for each pair of a query and a candidate, whose `input_ids` and the like are
    [B, N, L]; -inf where a query has no candidate. Raises ValueError for a model that gives several numbers a pair."""
    is_there_BN = named["attention_mask"].any(dim=2)
    scores_R1 = logits_of(**{name: each_BNL[is_there_BN] for name, each_BNL in named.items()})
    if scores_R1.shape[1] != 1:
        raise ValueError(f"it gives {scores_R1.shape[1]} numbers for a pair, expected one score: num_classes = 1")
    return spread_scores(scores_R1[:, 0], is_there_BN)


def spread_scores(scores_R: Tensor, is_there_BN: Tensor) -> Tensor:
    """[B, N], -inf where nothing is."""
    scores_BN = torch.full(is_there_BN.shape, -math.inf, dtype=scores_R.dtype, device=scores_R.device)
    scores_BN[is_there_BN] = scores_R
    return scores_BN
