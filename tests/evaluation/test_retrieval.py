"""Vectors of queries against those of a whole corpus."""

from typing import Any

import pytest
import torch
from torch.nn import functional

import softlab
from softlab.errors import InvalidOption
from softlab.evaluation import retrieval
from softlab.evaluation.retrieval import Similarity
from tests.evaluation.metrics.test_rankings import by_loops


def vectors(count: int, *, seed: int) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


RELEVANCE = [{0: 1.0}, {3: 2.0, 8: 1.0}, {}, {49: 0.5}, {1: 1.0, 2: 1.0, 3: 3.0}]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("chunk", [60, 1 << 24])
def test_each_query_is_ranked_against_all_documents(
    similarity: Similarity, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "CHUNK_NUMBERS", chunk)
    queries_QD, documents_ND = vectors(5, seed=0), vectors(50, seed=1)

    found = softlab.measure_retrieval(queries_QD, documents_ND, RELEVANCE, similarity=similarity)

    ours, theirs = queries_QD.double(), documents_ND.double()
    if similarity == "cosine":
        ours, theirs = functional.normalize(ours, dim=1), functional.normalize(theirs, dim=1)
    expected = [
        by_loops(scores, [documents.get(place, 0.0) for place in range(50)])
        for scores, documents in zip((ours @ theirs.T).tolist(), RELEVANCE, strict=True)
        if documents
    ]
    assert found.ndcg == pytest.approx(sum(gain for gain, _ in expected) / 4, abs=1e-6)
    assert found.mrr == pytest.approx(sum(rank for _, rank in expected) / 4, abs=1e-6)
    assert (found.queries, found.left_out) == (4, 1)


def test_a_corpus_that_holds_the_queries_themselves_is_ranked_perfectly() -> None:
    documents_ND = vectors(30, seed=2)

    found = softlab.measure_retrieval(documents_ND[:7], documents_ND, [{place: 1.0} for place in range(7)])

    assert (found.ndcg, found.mrr) == (1, 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"documents_ND": torch.zeros(3, 5)}, r"queries are \[2, 6\] and the documents \[3, 5\]"),
        ({"relevance": [{0: 1.0}]}, r"2 queries, and `relevance` has 1 mappings"),
        ({"relevance": [{0: 1.0}, {3: 1.0}]}, r"query 1 has the relevant document 3, and there are 3"),
        ({"relevance": [{0: 1.0}, {2: -1.0}]}, r"query 1 has a relevance below 0"),
        ({"relevance": [{}, {}]}, r"no query has a relevant document"),
        ({"similarity": "euclid"}, r"expected cosine or dot"),
        ({"k": 0}, r"k of 1 or more"),
    ],
)
def test_what_can_not_be_ranked_is_refused(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "queries_QD": vectors(2, seed=0),
        "documents_ND": vectors(3, seed=1),
        "relevance": [{0: 1.0}, {1: 1.0}],
    }

    with pytest.raises(InvalidOption, match=message):
        softlab.measure_retrieval(**given | changed)
