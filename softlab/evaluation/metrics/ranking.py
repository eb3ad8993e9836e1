"""How well scores rank what is relevant: the formulas, row by row."""

# Shape letters: Q queries, N candidates of each, k of them at the top.

import torch
from torch import Tensor

from softlab.evaluation.metrics.mean import sum_dtype

TOP = 10
"""How many of the first candidates a ranking is judged by."""


def by_score(scores_QN: Tensor, relevance_QN: Tensor) -> Tensor:
    """Relevance [Q, N], that of the largest score first. Of equal scores the least relevant comes first, so that a
    model that gives all the same gains nothing by the order of its candidates. NaN, where a query has no candidate,
    comes last, as 0."""
    is_there_QN = ~relevance_QN.isnan()
    scores_QN = scores_QN.masked_fill(~is_there_QN, -torch.inf)
    relevance_QN = relevance_QN.nan_to_num(0.0)
    # A missing candidate sorts behind one of score -inf.
    rank_QN = relevance_QN.masked_fill(~is_there_QN, torch.inf).argsort(dim=1, stable=True)
    order_QN = rank_QN.gather(1, scores_QN.gather(1, rank_QN).argsort(dim=1, descending=True, stable=True))
    return relevance_QN.gather(1, order_QN)


def ndcg(scores_QN: Tensor, relevance_QN: Tensor, *, k: int = TOP) -> Tensor:
    """[Q]: sum over the first k of relevance / log2(1 + rank), divided by the largest that it could be
    (Jarvelin, Kekalainen 2002, with the discount of Burges et al. 2005, and gains as they are). NaN for a query
    without anything relevant."""
    exact = sum_dtype(scores_QN.device)
    ranked_QN = by_score(scores_QN, relevance_QN).to(exact)
    ideal_QN = relevance_QN.nan_to_num(0.0).to(exact).sort(dim=1, descending=True).values
    return _dcg(ranked_QN[:, :k]) / _dcg(ideal_QN[:, :k])


def reciprocal_rank(scores_QN: Tensor, relevance_QN: Tensor, *, k: int = TOP) -> Tensor:
    """[Q]: 1 / rank of the first relevant candidate, 0 where none is among the first k. NaN for a query without
    anything relevant."""
    is_hit_QK = by_score(scores_QN, relevance_QN)[:, :k] > 0
    first_Q = is_hit_QK.int().argmax(dim=1)
    found_Q = torch.where(is_hit_QK.any(dim=1), 1 / (1 + first_Q.to(sum_dtype(first_Q.device))), 0.0)
    return found_Q.masked_fill(~has_relevant(relevance_QN), torch.nan)


def has_relevant(relevance_QN: Tensor) -> Tensor:
    """bool [Q]."""
    return (relevance_QN > 0).any(dim=1)


def _dcg(relevance_QK: Tensor) -> Tensor:
    ranks_K = torch.arange(1, relevance_QK.shape[1] + 1, dtype=relevance_QK.dtype, device=relevance_QK.device)
    return (relevance_QK / (1 + ranks_K).log2()).sum(dim=1)
