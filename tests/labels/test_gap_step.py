import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.labels.coding import Coding, LabelCoding
from softlab.labels.gap_step import MAX_COST, STEPS, choose_gap_step, coding_cost, coding_shift
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head, SoftLabels

# Shape letters: B rows, C classes, K entries kept.


def make_logits(*, rows: int = 64, num_classes: int = 100, scale: float = 3.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(rows, num_classes, generator=torch.Generator().manual_seed(seed))


def stored(labels: SoftLabels, *, coding: Coding = "uint8", step: float = 1 / 16) -> SoftLabels:
    label_coding = LabelCoding(
        coding=coding,
        gap_step=step,
        num_classes=labels.num_classes,
        temperatures=labels.temperatures,
        head=labels.head,
    )
    return label_coding.decode(label_coding.encode(labels))


def costs(labels: SoftLabels, step: float) -> list[float]:
    found = stored(labels, step=step)
    return [coding_cost(labels, found, temperature=t).mean().item() for t in labels.temperatures]


# What a coding costs.


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_cost_is_the_divergence_of_the_distributions_written_out(k: int, temperature: float) -> None:
    """In float64, each row's kept classes and one more for all others."""
    labels = keep_top_k(make_logits(rows=3, num_classes=20), k=k, temperatures=(1.0, 4.0))
    found = stored(labels, step=1 / 4)

    cost_B = coding_cost(labels, found, temperature=temperature)

    for row in range(3):
        expected = 0.0
        for p, q in zip(written_out(labels, row, temperature), written_out(found, row, temperature), strict=True):
            expected += p * math.log(p / q) if p > 0 else 0.0
        assert cost_B[row].item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_shift_is_by_how_much_the_loss_of_a_flat_student_moves(k: int, temperature: float) -> None:
    """In float64, each class by itself."""
    labels = keep_top_k(make_logits(rows=3, num_classes=20), k=k, temperatures=(1.0, 4.0))
    found = stored(labels, step=1 / 4)

    shift_B = coding_shift(labels, found, temperature=temperature)

    for row in range(3):
        ours, theirs = (flat_student_kl(each, row, temperature) for each in (labels, found))
        assert shift_B[row].item() == pytest.approx(abs(ours - theirs), rel=1e-6, abs=1e-9)


def flat_student_kl(labels: SoftLabels, row: int, temperature: float) -> float:
    *kept, tail = written_out(labels, row, temperature)
    others = [tail / max(20 - labels.k, 1)] * (20 - labels.k)
    return sum(p * math.log(p * 20) for p in [*kept, *others] if p > 0)


def test_of_first_order_the_shift_is_far_above_the_cost() -> None:
    """A step that costs 8e-5 nats moves the value of a loss by 2e-3 to 9e-3."""
    labels = keep_top_k(make_logits(rows=256, num_classes=1000), k=16)
    step = choose_gap_step(labels)
    found = stored(labels, step=step)

    shifts = [coding_shift(labels, found, temperature=each).mean().item() for each in labels.temperatures]

    assert max(costs(labels, step)) <= MAX_COST
    assert 20 * MAX_COST < max(shifts) < 1e-2


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_shift_under_a_sigmoid_head_is_the_sum_over_classes(k: int) -> None:
    labels = keep_top_k(make_logits(rows=3, num_classes=20), k=k, temperatures=(1.0,), head="sigmoid")
    found = stored(labels, step=1 / 4)

    shift_B = coding_shift(labels, found, temperature=1.0)

    for row in range(3):
        ours, theirs = (binary_negentropy(each, row) for each in (labels, found))
        assert shift_B[row].item() == pytest.approx(abs(ours - theirs), rel=1e-5, abs=1e-7)


def binary_negentropy(labels: SoftLabels, row: int) -> float:
    raw = [logit + labels.max_logit_B[row].item() for logit in labels.logits_BK[row].tolist()]
    kept = [1 / (1 + math.exp(-logit)) for logit in raw]
    others = [math.exp(labels.log_tail_BT[row, 0].item())] * (20 - labels.k)
    return sum(x * math.log(x) for p in [*kept, *others] for x in (p, 1 - p) if x > 0)


def written_out(labels: SoftLabels, row: int, temperature: float) -> list[float]:
    tail = math.exp(labels.log_tail_BT[row, labels.temperatures.index(temperature)].item())
    weights = [math.exp(logit / temperature) for logit in labels.logits_BK[row].tolist()]
    return [(1 - tail) * weight / sum(weights) for weight in weights] + [tail]


@pytest.mark.parametrize("k", [3, 6])
def test_under_a_sigmoid_head_it_is_the_sum_over_classes(k: int) -> None:
    logits_BC = make_logits(rows=2, num_classes=6)
    labels = keep_top_k(logits_BC, k=k, temperatures=(2.0,), head="sigmoid")
    found = stored(labels, step=1 / 4)

    cost_B = coding_cost(labels, found, temperature=2.0)

    for row in range(2):
        expected = 0.0
        ours, theirs = probabilities(labels, row), probabilities(found, row)
        for p, q in zip(ours, theirs, strict=True):
            expected += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        assert cost_B[row].item() == pytest.approx(expected, rel=1e-5)


def probabilities(labels: SoftLabels, row: int) -> list[float]:
    raw = [logit + labels.max_logit_B[row].item() for logit in labels.logits_BK[row].tolist()]
    kept = [1 / (1 + math.exp(-logit / 2)) for logit in raw]
    return kept + [math.exp(labels.log_tail_BT[row, 0].item())] * (labels.num_classes - labels.k)


@given(
    scale=st.sampled_from([1e-3, 1.0, 30.0, 3000.0]),
    k=st.integers(1, 12),
    head=st.sampled_from(["softmax", "sigmoid"]),
    seed=st.integers(0, 100),
)
def test_a_cost_is_never_negative_or_undefined_and_nothing_stored_exactly_costs_anything(
    scale: float, k: int, head: Head, seed: int
) -> None:
    labels = keep_top_k(make_logits(rows=4, num_classes=12, scale=scale, seed=seed), k=k, head=head)

    for temperature in labels.temperatures:
        assert coding_cost(labels, labels, temperature=temperature).eq(0).all()
        assert (coding_cost(labels, stored(labels), temperature=temperature) >= -1e-12).all()


# The step.


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("k", [1, 16, 100])
def test_it_is_the_largest_one_whose_cost_stays_below_the_bound(scale: float, k: int) -> None:
    labels = keep_top_k(make_logits(scale=scale), k=k)

    step = choose_gap_step(labels)

    assert max(costs(labels, step)) <= MAX_COST
    for larger in STEPS[: STEPS.index(step)]:
        assert max(costs(labels, larger)) > MAX_COST


def test_logits_far_apart_get_a_larger_step_than_their_rounding_asks_for() -> None:
    """A gap of 20 nats needs steps of 1/8: with smaller ones it is clipped, which costs more than any rounding."""
    labels = keep_top_k(torch.tensor([[0.0, -3.0, -23.0, -24.0]]).repeat(8, 1) * 1.0, k=4, temperatures=(4.0,))

    assert choose_gap_step(labels) >= 1 / 8


def test_where_no_step_is_cheap_enough_the_cheapest_is_taken() -> None:
    labels = keep_top_k(make_logits(num_classes=10, scale=0.5), k=10, temperatures=(0.01,))
    cheapest = min(STEPS, key=lambda step: max(costs(labels, step)))
    assert max(costs(labels, cheapest)) > MAX_COST

    assert choose_gap_step(labels) == cheapest


def test_no_step_is_so_small_that_it_clips_what_a_larger_one_would_hold() -> None:
    """Where rounding alone is over the bound; gaps of 11 nats need steps of 1/16."""
    logits_BC = torch.tensor([[8.0, -3.0, -3.1]]).repeat(8, 3000)[:, :9000]
    labels = keep_top_k(torch.cat([logits_BC, torch.full((8, 600), -7.6)], dim=1), k=3002, head="sigmoid")

    step = choose_gap_step(labels)

    assert stored(labels, step=step).logits_BK.sub(labels.logits_BK).abs().max() <= step


@pytest.mark.gpu
def test_labels_on_a_gpu_get_the_step_that_they_get_elsewhere() -> None:
    labels = keep_top_k(make_logits(), k=16)

    assert choose_gap_step(labels.to("cuda")) == choose_gap_step(labels)
