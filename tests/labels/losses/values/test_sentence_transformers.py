"""Losses on values against those of sentence-transformers, which are other people's code."""

# Shape letters: B rows in a batch, D numbers of a vector, N candidates of a row.

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.labels.losses.values import CosineLoss, MarginMseLoss, VectorKlLoss, VectorMseLoss

pytestmark = pytest.mark.slow  # its import takes as long as all of these tests

QUERY_BD, CANDIDATES_NBD, TEACHER_BD = (
    torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    for seed, shape in enumerate([(6, 16), (3, 6, 16), (6, 16)])
)
SCORES_BN = torch.randn(6, 3, generator=torch.Generator().manual_seed(9))
OWN_SCORES_BN = torch.einsum("bd,nbd->bn", QUERY_BD, CANDIDATES_NBD)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return pytest.importorskip("sentence_transformers.sentence_transformer.losses", reason="sentence-transformers 6")


class GivesItsInput(nn.Module):
    """Stands where they expect a model."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["embedding"]}

    def get_embedding_dimension(self) -> int:
        return 16


def given(*columns: Tensor) -> list[dict[str, Tensor]]:
    return [{"embedding": column} for column in columns]


def test_vector_mse_is_their_mse(theirs: Any) -> None:
    expected = theirs.MSELoss(GivesItsInput())(given(QUERY_BD), TEACHER_BD)

    torch.testing.assert_close(VectorMseLoss()(QUERY_BD, TEACHER_BD), expected)


@pytest.mark.parametrize(("metric", "loss"), [("mse", VectorMseLoss()), ("cosine", CosineLoss())])
def test_vectors_are_compared_as_by_their_distillation(theirs: Any, metric: str, loss: Any) -> None:
    expected = theirs.EmbedDistillLoss(GivesItsInput(), distance_metric=metric)(given(QUERY_BD), TEACHER_BD)

    torch.testing.assert_close(loss(QUERY_BD, TEACHER_BD), expected)


def test_prefixes_are_their_matryoshka(theirs: Any) -> None:
    """By cosine: of a squared error theirs compares prefixes at length 1 with the teacher's as they are."""
    distil = theirs.EmbedDistillLoss(GivesItsInput(), distance_metric="cosine")
    matryoshka = theirs.MatryoshkaLoss(GivesItsInput(), distil, [16, 8, 4], [1.0, 0.5, 2.0])
    matryoshka.loss.model = matryoshka.model

    expected = matryoshka(given(QUERY_BD), TEACHER_BD)

    ours = CosineLoss(prefixes=(4, 8), prefix_weights=(2.0, 0.5))
    torch.testing.assert_close(ours(QUERY_BD, TEACHER_BD), expected)


@pytest.mark.parametrize("candidates", [2, 3])
def test_margin_mse_is_theirs(theirs: Any, candidates: int) -> None:
    columns, scores_BN = CANDIDATES_NBD[:candidates], SCORES_BN[:, :candidates]

    expected = theirs.MarginMSELoss(GivesItsInput())(given(QUERY_BD, *columns), scores_BN)

    torch.testing.assert_close(MarginMseLoss()(OWN_SCORES_BN[:, :candidates], scores_BN), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.filterwarnings("ignore:.*teacher")
def test_kl_over_candidates_is_theirs(theirs: Any, temperature: float) -> None:
    loss = theirs.DistillKLDivLoss(GivesItsInput(), temperature=temperature)

    expected = loss(given(QUERY_BD, *CANDIDATES_NBD), SCORES_BN)

    torch.testing.assert_close(VectorKlLoss(temperature=temperature)(OWN_SCORES_BN, SCORES_BN), expected)
