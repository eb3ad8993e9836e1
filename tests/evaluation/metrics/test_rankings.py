"""Rankings against torchmetrics where no scores are equal, and against plain loops in float64 where some are."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import softlab
from softlab.evaluation.best import choose_metric
from softlab.evaluation.measure import evaluate
from softlab.evaluation.metrics.ranking import ndcg, reciprocal_rank
from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.modalities.modality import settle_input
from softlab.modalities.text.inputs import TextInput
from tests.modalities.text.queries import FIELDS, RELEVANCE, write_queries

OWN = TextInput(tokenizer="train:120", field="query", candidate_fields=("candidates",), relevance_field="relevance")


def by_loops(scores: list[float], relevance: list[float], *, k: int = 10) -> tuple[float, float]:
    """nDCG and reciprocal rank of one query, the least relevant of equal scores first."""
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], relevance[place]))
    ranked = [relevance[place] for place in order]

    def gain(values: list[float]) -> float:
        return sum(value / math.log2(2 + place) for place, value in enumerate(values[:k]))

    first = next((place for place, value in enumerate(ranked) if value > 0), len(ranked))
    return gain(ranked) / gain(sorted(relevance, reverse=True)), 1 / (1 + first) if first < k else 0.0


def padded(rows: list[list[float]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [math.nan] * (width - len(row)) for row in rows])


lists = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=14)


@given(st.lists(lists, min_size=1, max_size=4))
def test_rankings_of_any_lists_are_those_of_plain_loops(queries: list[list[tuple[int, int]]]) -> None:
    """Scores are often equal here, and lists of different lengths."""
    scores = [[float(score) for score, _ in query] for query in queries]
    relevance = [[float(grade) for _, grade in query] for query in queries]
    scores_QN = padded(scores).nan_to_num(-math.inf)

    found = zip(ndcg(scores_QN, padded(relevance)).tolist(), reciprocal_rank(scores_QN, padded(relevance)), strict=True)

    for (gain, rank), own, grades in zip(found, scores, relevance, strict=True):
        if not any(grades):
            assert math.isnan(gain)
            assert math.isnan(rank)
        else:
            assert (gain, rank) == pytest.approx(by_loops(own, grades), abs=1e-12)


@pytest.mark.parametrize("is_graded", [False, True])
def test_without_equal_scores_rankings_are_those_of_torchmetrics(is_graded: bool) -> None:
    library = pytest.importorskip("torchmetrics.functional.retrieval")
    generator = torch.Generator().manual_seed(3)
    scores_QN = torch.rand(20, 30, generator=generator, dtype=torch.float64)
    relevance_QN = torch.randint(0, 4, scores_QN.shape, generator=generator) * (scores_QN.flip(0) > 0.8)
    relevance_QN[:, 0] = 1
    if not is_graded:
        relevance_QN = (relevance_QN > 0).long()

    gains_Q, ranks_Q = ndcg(scores_QN, relevance_QN.double()), reciprocal_rank(scores_QN, relevance_QN.double())

    for query in range(20):
        row, grades = scores_QN[query], relevance_QN[query]
        assert gains_Q[query].item() == pytest.approx(
            library.retrieval_normalized_dcg(row, grades, top_k=10).item(), abs=1e-6
        )
        assert ranks_Q[query].item() == pytest.approx(
            library.retrieval_reciprocal_rank(row, grades > 0, top_k=10).item(), abs=1e-6
        )


def test_a_model_that_scores_all_alike_gains_nothing_by_the_order_of_candidates() -> None:
    relevance_QN = torch.zeros(1, 12)
    relevance_QN[0, 0] = 1

    assert ndcg(torch.zeros(1, 12), relevance_QN).item() == 0
    assert reciprocal_rank(torch.zeros(1, 12), relevance_QN).item() == 0


@pytest.fixture
def loader(tmp_path: Path) -> BatchLoader:
    fields = {**FIELDS, "relevance": "relevance"}
    source = softlab.open_source(
        softlab.SourceOptions(path=str(write_queries(tmp_path / "queries.parquet")), fields=fields), modality="text"
    )
    aligned = Aligned(source=source, inputs=(settle_input(OWN, source),))
    return BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))


def test_queries_without_a_relevant_candidate_are_left_out_of_the_mean_and_told(loader: BatchLoader) -> None:
    generator = torch.Generator().manual_seed(0)
    scores_NC = torch.rand(len(RELEVANCE), 5, generator=generator)

    found = evaluate({"own": lambda batch: scores_NC[batch.source_B]}, loader, batch_size=5)["own"].values

    expected = [
        by_loops(scores_NC[query, : len(grades)].tolist(), [float(grade) for grade in grades])
        for query, grades in enumerate(RELEVANCE)
        if any(grades)
    ]
    assert len(expected) == 9
    assert (found["ndcg_at_10"], found["mrr_at_10"]) == pytest.approx(np.mean(expected, axis=0), abs=1e-6)
    assert found["ranked_share"] == 0.75


def test_what_makes_an_epoch_the_best_is_the_ranking_where_relevance_is_known(loader: BatchLoader) -> None:
    assert choose_metric("auto", loader.aligned) == "ndcg_at_10"
    assert choose_metric("auto", replace(loader.aligned, values_output="scores")) == "ndcg_at_10"


def test_a_model_of_other_outputs_has_no_ranking(loader: BatchLoader) -> None:
    found = evaluate({"own": lambda batch: torch.zeros(len(batch), 3)}, loader)["own"].values

    assert found.keys() == {"ranked_share"}


def test_no_order_of_candidates_beats_that_of_their_relevance() -> None:
    relevance_QN = torch.tensor([[3.0, 0.0, 1.0, 2.0]])
    orders = [torch.tensor([order]).float() for order in itertools.permutations(range(4))]

    assert max(ndcg(order, relevance_QN).item() for order in orders) == 1
    assert ndcg(relevance_QN, relevance_QN).item() == 1
