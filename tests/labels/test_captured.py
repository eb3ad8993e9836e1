from typing import get_args

import pytest
import torch

from softlab.labels.captured import captured_mass, confidence
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head

TEMPERATURES = (1.0, 4.0)


def make_logits() -> torch.Tensor:
    return 3 * torch.randn(50, 20, generator=torch.Generator().manual_seed(0)) + 1


def probabilities(head: Head, temperature: float) -> torch.Tensor:
    scaled = make_logits().double() / temperature
    return scaled.softmax(dim=1) if head == "softmax" else scaled.sigmoid()


@pytest.mark.parametrize("head", get_args(Head))
def test_captured_mass_is_the_share_of_the_kept_classes(head: Head) -> None:
    labels = keep_top_k(make_logits(), k=4, temperatures=TEMPERATURES, head=head)

    captured_BT = captured_mass(labels)

    for column, temperature in enumerate(TEMPERATURES):
        dense = probabilities(head, temperature)
        expected = dense.topk(4, dim=1).values.sum(dim=1) / dense.sum(dim=1)
        torch.testing.assert_close(captured_BT[:, column], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("head", get_args(Head))
def test_all_is_captured_where_all_classes_are_kept(head: Head) -> None:
    labels = keep_top_k(make_logits(), k=20, temperatures=TEMPERATURES, head=head)

    assert (captured_mass(labels) == 1).all()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("head", get_args(Head))
def test_confidence_is_the_probability_of_the_most_probable_class(head: Head, temperature: float) -> None:
    labels = keep_top_k(make_logits(), k=4, temperatures=TEMPERATURES, head=head)

    expected = probabilities(head, temperature).amax(dim=1)
    torch.testing.assert_close(confidence(labels, temperature=temperature), expected, atol=1e-6, rtol=0)
