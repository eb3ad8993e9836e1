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
    places_R = _places(is_there_BN)
    queries_BD = vectors_of(ids_BL, mask_BL)
    candidates_RD = vectors_of(*(each.flatten(end_dim=1)[places_R] for each in (candidate_ids_BNL, candidate_mask_BNL)))
    of_query_R = places_R // is_there_BN.shape[1]
    return _spread((queries_BD[of_query_R] * candidates_RD).sum(dim=1), places_R, is_there_BN.shape)


def score_pairs(logits_of: Callable[..., Tensor], named: Mapping[str, Tensor]) -> Tensor:
    """[B, N]: what a model gives for each pair of a query and a candidate, whose `input_ids` and the like are
    [B, N, L]; -inf where a query has no candidate. Raises ValueError for a model that gives several numbers a pair."""
    is_there_BN = named["attention_mask"].any(dim=2)
    places_R = _places(is_there_BN)
    scores_R1 = logits_of(**{name: each_BNL.flatten(end_dim=1)[places_R] for name, each_BNL in named.items()})
    if scores_R1.shape[1] != 1:
        raise ValueError(f"it gives {scores_R1.shape[1]} numbers for a pair, expected one score: num_classes = 1")
    return _spread(scores_R1[:, 0], places_R, is_there_BN.shape)


def _places(is_there_BN: Tensor) -> Tensor:
    """int64 [R], ascending: b * N + n of each candidate that is there. A GPU is waited for, this one time a batch."""
    return is_there_BN.flatten().nonzero()[:, 0]


def _spread(scores_R: Tensor, places_R: Tensor, shape: torch.Size) -> Tensor:
    """[B, N], -inf where nothing is."""
    return scores_R.new_full((shape.numel(),), -math.inf).index_copy(0, places_R, scores_R).view(shape)
