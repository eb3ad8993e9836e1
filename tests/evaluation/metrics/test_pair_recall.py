"""How often halves of pairs find each other, against plain code."""

# Shape letters: N pairs, D numbers of a vector.

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.pair_recall import PairRecall
from softlab.loading.batch import Batch


def measure(pairs_N2D: Tensor, *, size: int) -> float | None:
    metric = PairRecall(torch.device("cpu"))
    for start in range(0, len(pairs_N2D), size):
        part = pairs_N2D[start : start + size]
        source_B = torch.arange(start, start + len(part))
        predicted_B = torch.zeros(len(part), dtype=torch.int64)
        batch = Batch(source_B=source_B, views_B=torch.zeros_like(source_B), inputs=(), content_hashes=())
        metric.add(Outputs(logits_BC=part, predicted_B=predicted_B), batch)
    return metric.value()


@pytest.mark.parametrize("size", [3, 17, 64])
def test_it_is_recall_at_one_in_both_directions(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    first_ND = torch.randn(40, 6, generator=generator)
    second_ND = first_ND + torch.randn(40, 6, generator=generator)
    similarities_NN = functional.cosine_similarity(first_ND[:, None], second_ND[None], dim=2)
    own_N = torch.arange(40)
    forth = (similarities_NN.argmax(dim=1) == own_N).double().mean()
    back = (similarities_NN.argmax(dim=0) == own_N).double().mean()

    found = measure(torch.stack([first_ND, second_ND], dim=1), size=size)

    assert found == pytest.approx(float(forth + back) / 2)
    assert 0.1 < float(forth) < 0.9, "else nothing is compared"


def test_halves_that_are_alike_all_find_each_other() -> None:
    same_ND = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))

    assert measure(torch.stack([same_ND, 3 * same_ND], dim=1), size=5) == 1.0


def test_one_pair_and_models_without_two_vectors_tell_nothing() -> None:
    assert measure(torch.ones(1, 2, 3), size=1) is None
    assert measure(torch.ones(4, 3, 3), size=4) is None
    assert measure(torch.ones(4, 3), size=4) is None
