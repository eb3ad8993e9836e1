"""Interpolated tails against brute force in float64: within their bounds, and told by how much they may be off."""

import math
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from softlab.errors import InterpolatedTail
from softlab.labels.coding import LabelCoding
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head, SoftLabels
from softlab.labels.tail_curve import tail_error
from softlab.labels.told import already_told

# Shape letters: B rows, C classes.

MASKED = -1e4
ROUNDING = 3e-5
"""Of float32, in nats."""

MORE_TEMPERATURES = st.lists(st.sampled_from([1.5, 2.0, 3.0, 4.0, 8.0, 16.0]), max_size=5, unique=True)


def exact_log_tail(logits_BC: Tensor, *, k: int, temperature: float, head: Head = "softmax") -> Tensor:
    """float64 [B], by its definition."""
    ranked_BC = logits_BC.double().sort(dim=1, descending=True).values / temperature
    if head == "sigmoid":
        return functional.logsigmoid(ranked_BC[:, k:]).logsumexp(dim=1) - math.log(ranked_BC.shape[1] - k)
    return ranked_BC[:, k:].logsumexp(dim=1) - ranked_BC.logsumexp(dim=1)


def logits_like(kind: str, *, scale: float, num_classes: int, rows: int = 8, seed: int = 0) -> Tensor:
    """Normal; with heavy tails; as of an image model, few directions that many classes share; masked at -1e4."""
    generator = torch.Generator().manual_seed(seed)
    logits_BC = scale * torch.randn(rows, num_classes, generator=generator)
    if kind == "heavy":
        return scale * (logits_BC / scale) ** 3 / 3
    if kind == "shared":
        hidden_BD, heads_DC = (
            torch.randn(rows, 6, generator=generator),
            torch.randn(6, num_classes, generator=generator),
        )
        return scale * hidden_BD.relu() @ heads_DC + torch.eye(rows, num_classes) * 3 * scale
    if kind == "masked":
        logits_BC[:, num_classes // 3 :] = MASKED
    return logits_BC


@given(
    kind=st.sampled_from(["normal", "heavy", "shared", "masked"]),
    scale=st.floats(0.3, 8),
    num_classes=st.integers(12, 200),
    k=st.integers(1, 4),
    more=MORE_TEMPERATURES,
    temperature=st.floats(1.01, 40),
    head=st.sampled_from(["softmax", "sigmoid"]),
    shift=st.floats(-6, 6),
    seed=st.integers(0, 2**32),
)
def test_no_tail_is_farther_off_than_its_bound(
    kind: str,
    scale: float,
    num_classes: int,
    k: int,
    more: list[float],
    temperature: float,
    head: Head,
    shift: float,
    seed: int,
) -> None:
    logits_BC = logits_like(kind, scale=scale, num_classes=num_classes, seed=seed) + shift
    labels = keep_top_k(logits_BC, k=k, temperatures=(1.0, *more), head=head)

    tails = labels.interpolate_log_tail(temperature)

    exact_B = exact_log_tail(logits_BC, k=k, temperature=temperature, head=head)
    assert ((tails.value_B - exact_B).abs() <= tails.most_B + ROUNDING * (1 + exact_B.abs())).all()
    assert (tails.about_B <= tails.most_B + ROUNDING).all()


@pytest.mark.parametrize(("kind", "temperature"), [("normal", 1.5), ("normal", 3.0), ("shared", 1.5), ("shared", 6.0)])
def test_of_logits_like_those_of_models_the_estimate_is_near_the_error_and_above_it(
    kind: str, temperature: float
) -> None:
    logits_BC = logits_like(kind, scale=3.0 if kind == "normal" else 1.0, num_classes=1000, rows=64)
    labels = keep_top_k(logits_BC, k=16)

    error = tail_error(labels.interpolate_log_tail(temperature))

    exact_B = exact_log_tail(logits_BC, k=16, temperature=temperature)
    off_B = (labels.interpolate_log_tail(temperature).value_B - exact_B).abs()
    weighted = ((exact_B.exp() * off_B).sum() / exact_B.exp().sum()).item()
    assert weighted <= error.about <= error.most < 0.1
    assert error.mass == pytest.approx(exact_B.exp().mean().item(), rel=0.01)


@pytest.mark.parametrize(("temperature", "most"), [(1.5, 0.03), (3.0, 0.006)])
def test_masked_classes_are_left_out_where_the_curve_tells_that_they_have_no_mass(
    temperature: float, most: float
) -> None:
    """As valid ones they would be 0.14 and 0.03 nats off."""
    logits_BC = logits_like("masked", scale=3.0, num_classes=900, rows=64)
    masked = keep_top_k(logits_BC, k=16)
    told = keep_top_k(logits_BC.masked_fill(logits_BC == MASKED, -math.inf), k=16, has_valid=True)

    exact_B = exact_log_tail(logits_BC, k=16, temperature=temperature)

    assert told.valid_B is not None
    assert told.valid_B.eq(300).all()
    assert (masked.interpolate_log_tail(temperature).value_B - exact_B).abs().mean() < most
    assert (told.interpolate_log_tail(temperature).value_B - exact_B).abs().mean() < 0.004


def test_a_store_of_uint8_is_off_by_no_more_than_the_bound_and_its_rounding() -> None:
    logits_BC = logits_like("normal", scale=3.0, num_classes=1000, rows=64)
    exact = keep_top_k(logits_BC, k=16)
    coding = LabelCoding(coding="uint8", num_classes=1000, temperatures=exact.temperatures)
    stored = coding.decode(coding.encode(exact))

    tails = stored.interpolate_log_tail(3.0)

    off_B = (tails.value_B - exact_log_tail(logits_BC, k=16, temperature=3.0)).abs()
    assert (off_B <= tails.most_B + 0.005).all()


def test_the_note_says_by_how_much() -> None:
    labels = keep_top_k(logits_like("normal", scale=3.0, num_classes=1000), k=16)

    with pytest.warns(InterpolatedTail, match=re.escape("in the mean, and off by about 0.001 nats, at most 0.01")):
        labels.log_tail_at(3.0)


def test_what_was_told_is_not_told_again() -> None:
    labels = keep_top_k(logits_like("normal", scale=3.0, num_classes=1000), k=16)

    with already_told():
        labels.log_tail_at(3.0)  # a warning would be an error here


def test_rows_without_a_tail_count_for_nothing() -> None:
    labels = keep_top_k(logits_like("normal", scale=3.0, num_classes=1000), k=16)
    whole = tail_error(labels.interpolate_log_tail(3.0))
    labels.log_tail_BT[:4] = -math.inf

    error = tail_error(labels.interpolate_log_tail(3.0))
    nothing = tail_error(_none_of(labels).interpolate_log_tail(3.0))

    assert error.mass < whole.mass
    assert 0 < error.about <= error.most < 0.1
    assert (nothing.mass, nothing.about, nothing.most) == (0, 0, 0)


def _none_of(labels: SoftLabels) -> SoftLabels:
    return replace(labels, log_tail_BT=torch.full_like(labels.log_tail_BT, -math.inf))
