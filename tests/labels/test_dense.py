"""Stored labels as one number a class, against the teacher's own probabilities."""

# Shape letters: B rows, C classes, K entries kept.

from typing import Any

import pytest
import torch
from torch import Tensor

from softlab.labels.dense import dense_probabilities
from softlab.labels.selection import keep_top_k

B, C = 40, 9


def logits(*, seed: int = 0) -> Tensor:
    return 3 * torch.randn(B, C, generator=torch.manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_of_all_classes_they_are_the_teachers_own(head: Any, temperature: float) -> None:
    logits_BC = logits()
    labels = keep_top_k(logits_BC, k=C, head=head)

    found = dense_probabilities(labels, temperature=temperature)

    scaled_BC = logits_BC.double() / temperature
    expected = scaled_BC.softmax(dim=1) if head == "softmax" else scaled_BC.sigmoid()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("k", range(1, C))
def test_the_classes_outside_share_what_is_left(k: int) -> None:
    logits_BC = logits(seed=k)
    p_BC = (logits_BC.double() / 2).softmax(dim=1)

    found = dense_probabilities(keep_top_k(logits_BC, k=k), temperature=2.0).double()

    ranked_BC, order_BC = p_BC.sort(dim=1, descending=True)
    ranked_BC[:, k:] = ranked_BC[:, k:].mean(dim=1, keepdim=True)
    torch.testing.assert_close(found.gather(1, order_BC), ranked_BC, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(B, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_classes_that_a_row_does_not_have_get_nothing(masked: bool) -> None:
    logits_BC = logits()
    logits_BC[:, 6:] = -torch.inf
    if masked:
        logits_BC = logits_BC.flip(1)

    found = dense_probabilities(keep_top_k(logits_BC, k=2, has_valid=True, masked=masked), temperature=2.0)

    assert (found[logits_BC.isneginf()] == 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(B))


def test_under_a_sigmoid_each_class_outside_has_the_mean() -> None:
    logits_BC = logits()
    p_BC = logits_BC.double().sigmoid()

    found = dense_probabilities(keep_top_k(logits_BC, k=4, head="sigmoid")).double()

    torch.testing.assert_close(found.sum(dim=1), p_BC.sum(dim=1), rtol=1e-5, atol=1e-6)
