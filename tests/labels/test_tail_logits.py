import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head, SoftLabels
from softlab.labels.tail_logits import shared_logit, tail_logits

# Shape letters: B rows in a batch, C classes.

HEADS: tuple[Head, ...] = ("softmax", "sigmoid")


def teacher_logits(*, scale: float, num_classes: int = 1000, offset: float = 0.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(64, num_classes, generator=torch.Generator().manual_seed(seed)) + offset


def outside(logits_BC: Tensor, labels: SoftLabels) -> Tensor:
    """float64 [B, C - K], relative to the row's largest."""
    is_outside_BC = torch.ones_like(logits_BC, dtype=torch.bool).scatter(1, labels.class_ids_BK, False)
    return (logits_BC.double() - labels.max_logit_B[:, None])[is_outside_BC].reshape(len(labels), -1)


@given(
    num_classes=st.integers(2, 50),
    k=st.integers(1, 50),
    scale=st.sampled_from([0.01, 1.0, 10.0]),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    seed=st.integers(0, 100),
)
def test_shared_by_the_classes_outside_it_has_the_mass_of_the_tail(
    num_classes: int, k: int, scale: float, temperature: float, seed: int
) -> None:
    logits_BC = teacher_logits(scale=scale, num_classes=num_classes, seed=seed)
    labels = keep_top_k(logits_BC, k=min(k, num_classes - 1), temperatures=(0.5, 1.0, 4.0))

    shared_B = shared_logit(labels, temperature)

    scaled = outside(logits_BC, labels) / temperature
    expected_B = temperature * (scaled.logsumexp(dim=1) - math.log(scaled.shape[1]))
    torch.testing.assert_close(shared_B.double(), expected_B, rtol=1e-5, atol=1e-5 * temperature)


def test_under_a_sigmoid_head_it_has_the_mean_probability_outside() -> None:
    logits_BC = teacher_logits(scale=2.0, offset=-4.0)
    labels = keep_top_k(logits_BC, k=16, temperatures=(2.0,), head="sigmoid")

    shared_B = shared_logit(labels, 2.0)

    max_B = labels.max_logit_B.double()
    mean_B = ((outside(logits_BC, labels) + max_B[:, None]) / 2).sigmoid().mean(dim=1)
    torch.testing.assert_close(((shared_B + max_B) / 2).sigmoid(), mean_B, rtol=1e-5, atol=0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("scale", "tolerance"),
    [(1.0, 0.05), (3.0, 0.35), (10.0, 8.0)],  # logits; measured: 0.004, 0.14 and 4.6, the mean of rows
)
def test_the_mean_is_close(head: Head, scale: float, tolerance: float) -> None:
    logits_BC = teacher_logits(scale=scale)
    labels = keep_top_k(logits_BC, k=16, temperatures=(1.0, 2.0, 4.0), head=head)

    mean_B = tail_logits(labels).mean_B

    error_B = mean_B - outside(logits_BC, labels).mean(dim=1)
    assert error_B.abs().mean().item() < tolerance


@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 0.1), (3.0, 0.25), (10.0, 0.7)])  # measured: 0.05, 0.19, 0.62
def test_the_variance_is_roughly_right(scale: float, tolerance: float) -> None:
    logits_BC = teacher_logits(scale=scale)
    labels = keep_top_k(logits_BC, k=16, temperatures=(1.0, 2.0, 4.0))

    variance_B = tail_logits(labels).variance_B

    assert variance_B is not None
    exact_B = outside(logits_BC, labels).var(dim=1, correction=0)
    assert (variance_B / exact_B - 1).abs().mean().item() < tolerance


def test_a_sigmoid_head_tells_no_variance() -> None:
    assert tail_logits(keep_top_k(teacher_logits(scale=3.0), k=16, head="sigmoid")).variance_B is None


@pytest.mark.parametrize("temperatures", [(2.0,), (3.0, 4.0)])
def test_one_temperature_tells_no_variance(temperatures: tuple[float, ...]) -> None:
    labels = keep_top_k(teacher_logits(scale=3.0), k=16, temperatures=temperatures)

    rest = tail_logits(labels)

    assert rest.variance_B is None
    torch.testing.assert_close(rest.mean_B, shared_logit(labels, temperatures[-1]))


def test_a_tail_of_one_class_is_that_class() -> None:
    logits_BC = teacher_logits(scale=3.0, num_classes=5)
    labels = keep_top_k(logits_BC, k=4)

    rest = tail_logits(labels)

    assert rest.variance_B is not None
    torch.testing.assert_close(rest.mean_B.double(), outside(logits_BC, labels)[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rest.variance_B, torch.zeros(64), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("log_tail", "has_mass"), [(-math.inf, False), (-65504.0, True), (0.0, True)])
def test_a_tail_of_nothing_or_of_everything_gives_finite_logits(log_tail: float, has_mass: bool) -> None:
    labels = keep_top_k(teacher_logits(scale=3.0), k=4)
    labels = dataclasses.replace(labels, log_tail_BT=torch.full_like(labels.log_tail_BT, log_tail))

    rest = tail_logits(labels)

    assert rest.mean_B.isfinite().all()
    assert (rest.mean_B <= labels.logits_BK[:, -1]).all()
    assert (rest.has_mass_B == has_mass).all()
