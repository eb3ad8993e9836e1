# Shape letters: B rows, C classes.

import math

import pytest
import torch
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.row_figures import agreement, one_teacher, sureness
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head


def logits(*, seed: int = 0) -> Tensor:
    return 2 * torch.randn((40, 12), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shared_tail(probabilities_BC: Tensor, *, k: int) -> Tensor:
    """What is left of some probabilities, where all but the k largest are made equal."""
    sorted_BC = probabilities_BC.sort(dim=1, descending=True).values
    if k < sorted_BC.shape[1]:
        sorted_BC[:, k:] = sorted_BC[:, k:].mean(dim=1, keepdim=True)
    return sorted_BC


def entropy(probabilities_BC: Tensor) -> Tensor:
    return -(probabilities_BC * probabilities_BC.log()).sum(dim=1)


@pytest.mark.parametrize("k", [1, 4, 12])
def test_figures_are_those_of_the_probabilities_with_an_equal_tail(k: int) -> None:
    logits_BC = logits()

    found = sureness(keep_top_k(logits_BC.float(), k=k, temperatures=(1.0, 4.0)))

    probabilities_BC = logits_BC.softmax(dim=1)
    largest_BC = probabilities_BC.sort(dim=1, descending=True).values
    torch.testing.assert_close(found["max_prob"], largest_BC[:, 0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["entropy"], entropy(shared_tail(probabilities_BC, k=k)), rtol=1e-4, atol=1e-5)
    if k > 1:
        torch.testing.assert_close(found["margin"], largest_BC[:, 0] - largest_BC[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [3, 12])
def test_under_a_sigmoid_head_each_class_has_a_probability_of_its_own(k: int) -> None:
    head: Head = "sigmoid"
    logits_BC = logits()

    found = sureness(keep_top_k(logits_BC.float(), k=k, temperatures=(1.0,), head=head))

    shared_BC = shared_tail(logits_BC.sigmoid(), k=k)
    torch.testing.assert_close(found["max_prob"], shared_BC[:, 0], rtol=1e-5, atol=1e-6)
    expected_B = entropy(shared_BC) + entropy(1 - shared_BC)
    torch.testing.assert_close(found["entropy"], expected_B, rtol=1e-4, atol=1e-5)


def test_a_row_that_is_certain_has_no_entropy() -> None:
    logits_BC = torch.tensor([[0.0, -1e4, -1e4], [0.0, 0.0, 0.0]])

    found = sureness(keep_top_k(logits_BC, k=3, temperatures=(1.0,)))

    torch.testing.assert_close(found["entropy"], torch.tensor([0.0, math.log(3)], dtype=torch.float64))


def test_several_teachers_are_judged_by_the_mean_of_their_probabilities() -> None:
    one_BC, other_BC = logits(seed=1), logits(seed=2)
    both = [keep_top_k(each.float(), k=12, temperatures=(1.0,)) for each in (one_BC, other_BC)]

    found = sureness(one_teacher(both, given=(3.0, 1.0)))

    mean_BC = 0.75 * one_BC.softmax(dim=1) + 0.25 * other_BC.softmax(dim=1)
    torch.testing.assert_close(found["max_prob"], mean_BC.amax(dim=1), rtol=1e-5, atol=1e-6)
    assert agreement(both).equal(one_BC.argmax(dim=1) == other_BC.argmax(dim=1))


def test_a_tail_that_is_stored_above_temperature_1_alone_is_refused() -> None:
    with pytest.raises(InvalidOption, match="a tail can't be rebuilt below"):
        sureness(keep_top_k(logits().float(), k=4, temperatures=(2.0,)))
