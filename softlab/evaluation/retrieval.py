"""How well vectors find the documents of a whole corpus that answer a query."""

# Shape letters: Q queries, C of them at a time, N documents, D numbers of a vector.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption
from softlab.evaluation.metrics.neighbours import CHUNK_NUMBERS
from softlab.evaluation.metrics.ranking import TOP, has_relevant, ndcg, reciprocal_rank

Similarity = Literal["cosine", "dot"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalQuality:
    """Means over the queries that have a relevant document."""

    ndcg: float
    """Gain of the first k documents, relative to the best order."""

    mrr: float
    """1 / rank of the first relevant document among the first k."""

    queries: int
    """Those that count."""

    left_out: int
    """Those without a relevant document."""


def measure_retrieval(
    queries_QD: Tensor,
    documents_ND: Tensor,
    relevance: Sequence[Mapping[int, float]],
    *,
    k: int = TOP,
    similarity: Similarity = "cosine",
) -> RetrievalQuality:
    """Every query against every document.

        quality = softlab.measure_retrieval(queries, documents, [{17: 1.0}, {3: 2.0, 8: 1.0}])

    `relevance` has one mapping a query, from the places of its relevant documents to how relevant they are; all others
    are 0. Raises InvalidOption for vectors of different widths, another number of mappings, a document that isn't
    there, and where no query has a relevant document.
    """
    _check(queries_QD, documents_ND, relevance)
    if similarity not in get_args(Similarity) or k < 1:
        raise InvalidOption(
            f"measure_retrieval: similarity = {similarity!r}, k = {k}: expected cosine or dot, and k of 1 or more."
        )
    if similarity == "cosine":
        queries_QD, documents_ND = (functional.normalize(each.float(), dim=1) for each in (queries_QD, documents_ND))
    gains, ranks, counted = [], [], []
    size = max(CHUNK_NUMBERS // max(len(documents_ND), 1), 1)
    for start in range(0, len(queries_QD), size):
        scores_CN = queries_QD[start : start + size].float() @ documents_ND.float().T
        relevance_CN = _dense(relevance[start : start + size], scores_CN)
        gains.append(ndcg(scores_CN, relevance_CN, k=k))
        ranks.append(reciprocal_rank(scores_CN, relevance_CN, k=k))
        counted.append(has_relevant(relevance_CN))
    counts_Q = torch.cat(counted)
    if not counts_Q.any():
        raise InvalidOption("measure_retrieval: no query has a relevant document. Check `relevance`.")
    return RetrievalQuality(
        ndcg=torch.cat(gains)[counts_Q].mean().item(),
        mrr=torch.cat(ranks)[counts_Q].mean().item(),
        queries=int(counts_Q.sum()),
        left_out=int((~counts_Q).sum()),
    )


def _dense(relevance: Sequence[Mapping[int, float]], scores_CN: Tensor) -> Tensor:
    found_CN = torch.zeros_like(scores_CN)
    for query, documents in enumerate(relevance):
        found_CN[query, list(documents)] = torch.tensor(list(documents.values()), device=found_CN.device).float()
    return found_CN


def _check(queries_QD: Tensor, documents_ND: Tensor, relevance: Sequence[Mapping[int, float]]) -> None:
    if queries_QD.ndim != 2 or documents_ND.ndim != 2 or queries_QD.shape[1] != documents_ND.shape[1]:
        raise InvalidOption(
            f"measure_retrieval: the queries are {list(queries_QD.shape)} and the documents "
            f"{list(documents_ND.shape)}, expected [queries, D] and [documents, D]. Take both from one model."
        )
    if len(relevance) != len(queries_QD):
        raise InvalidOption(
            f"measure_retrieval: {len(queries_QD):,} queries, and `relevance` has {len(relevance):,} mappings. Give "
            f"one a query, an empty one where nothing is relevant."
        )
    for query, documents in enumerate(relevance):
        wrong = [each for each in documents if not 0 <= each < len(documents_ND)]
        if wrong:
            raise InvalidOption(
                f"measure_retrieval: query {query:,} has the relevant document {wrong[0]:,}, and there are "
                f"{len(documents_ND):,}. Count them from 0, in the order of the vectors."
            )
        if min(documents.values(), default=0) < 0:
            raise InvalidOption(f"measure_retrieval: query {query:,} has a relevance below 0. Give 0 or more.")
