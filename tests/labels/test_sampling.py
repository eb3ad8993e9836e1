"""What a sample of a row's classes is, that it isn't biased, and what becomes of odd rows."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.dense import dense_probabilities
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.sampling import keep_sampled
from softlab.labels.soft_labels import SoftLabels
from tests.labels.sampled import dense_weights, make_logits, make_uniforms, sample, systematic, weights_of

# Shape letters: R rows, C classes, K entries, H entries of a row's head.

ROWS = st.builds(
    make_logits,
    st.integers(1, 12),
    num_classes=st.integers(1, 700),
    scale=st.sampled_from([0.0, 0.3, 1.0, 3.0, 10.0, 40.0]),
    seed=st.integers(0, 100),
)
RESOLUTIONS = st.sampled_from([1, 2, 5, 16, 48, 254])


def probabilities(logits_RC: Tensor) -> Tensor:
    return logits_RC.double().softmax(dim=1)


# What a row's entries are.


@given(ROWS, RESOLUTIONS)
def test_a_row_has_at_most_one_entry_more_than_the_resolution(logits_RC: Tensor, resolution: int) -> None:
    labels = sample(logits_RC, resolution=resolution)

    is_entry_RK = weights_of(labels) > 0
    assert labels.k == resolution + 1
    assert labels.class_ids_BK.dtype == torch.int64
    assert (is_entry_RK.long().diff(dim=1) <= 0).all()  # fill is at the end
    assert (labels.class_ids_BK[~is_entry_RK] == 0).all()
    assert (labels.class_ids_BK < logits_RC.shape[1]).all()


@given(ROWS, RESOLUTIONS)
def test_likely_classes_are_there_as_they_are_and_the_likeliest_comes_first(logits_RC: Tensor, resolution: int) -> None:
    labels = sample(logits_RC, resolution=resolution)

    p_RC = probabilities(logits_RC)
    for row, (ids_K, weights_K) in enumerate(zip(labels.class_ids_BK, weights_of(labels), strict=True)):
        surely = (p_RC[row] > (1 + 1e-5) / resolution).nonzero()[:, 0]
        num_head = max(1, int((p_RC[row] >= (1 - 1e-5) / resolution).sum()))
        likely = p_RC[row].argsort(descending=True, stable=True)[:num_head]
        count = max(1, len(surely))
        assert ids_K[:count].tolist() == likely[:count].tolist()
        torch.testing.assert_close(weights_K[:count], p_RC[row][ids_K[:count]], rtol=1e-5, atol=1e-9)


@given(ROWS, RESOLUTIONS)
def test_the_weights_of_a_row_sum_to_one_unless_its_tail_is_tiny(logits_RC: Tensor, resolution: int) -> None:
    labels = sample(logits_RC, resolution=resolution)

    smallest = 1 / (16 * resolution)
    for p_C, weights_K in zip(probabilities(logits_RC), weights_of(labels), strict=True):
        num_head = max(1, int((p_C >= 1 / resolution).sum()))
        tail = p_C.sort(descending=True).values[num_head:].sum().item()
        sums = [1.0] if tail >= smallest else [1 - tail, 1 - tail + smallest]
        assert min(abs(weights_K.sum().item() - each) for each in sums) < 1e-5


@given(ROWS, RESOLUTIONS)
def test_drawn_classes_ascend_and_are_there_twice_only_where_one_is_longer_than_the_distance(
    logits_RC: Tensor, resolution: int
) -> None:
    labels = sample(logits_RC, resolution=resolution)

    p_RC = probabilities(logits_RC)
    for row, (ids_K, weights_K) in enumerate(zip(labels.class_ids_BK, weights_of(labels), strict=True)):
        num_head = max(1, int((p_RC[row] >= 1 / resolution).sum()))
        head, drawn = ids_K[:num_head].tolist(), ids_K[num_head : int((weights_K > 0).sum())].tolist()
        if (p_RC[row] * resolution - 1).abs().min() < 1e-5:
            continue  # rounding may count one more, or one less, to the head
        assert drawn == sorted(drawn)
        assert not set(drawn) & set(head)
        assert (p_RC[row][drawn] > 0).all()
        for class_id in set(drawn):
            weight = weights_K[num_head].item()
            assert drawn.count(class_id) <= math.ceil(p_RC[row][class_id].item() / weight * (1 + 1e-4)) + (
                p_RC[row][class_id].item() > weight * (1 - 1e-4)
            )


@given(ROWS, RESOLUTIONS)
def test_the_entropy_is_that_of_the_whole_row(logits_RC: Tensor, resolution: int) -> None:
    labels = sample(logits_RC, resolution=resolution)

    assert labels.entropy_B is not None
    p_RC = probabilities(logits_RC)
    torch.testing.assert_close(labels.entropy_B.double(), -torch.xlogy(p_RC, p_RC).sum(dim=1), rtol=0, atol=3e-6)


def test_labels_say_what_they_are() -> None:
    labels = sample(make_logits(rows=3))

    assert labels.is_sampled
    assert (labels.temperatures, labels.absolute, labels.interpolates) == ((1.0,), False, False)
    assert labels.log_tail_BT.isneginf().all()
    assert labels.log_tail_BT.shape == (3, 1)
    assert (labels.logits_BK[:, 0] == 0).all()
    assert {each.dtype for each in labels.tensors()} == {torch.int64, torch.float32}


# Against the same draw as plain loops.


@given(ROWS, RESOLUTIONS, st.integers(0, 50))
def test_a_row_is_what_one_class_after_the_other_would_give(logits_RC: Tensor, resolution: int, seed: int) -> None:
    labels, uniforms_R2 = sample(logits_RC, resolution=resolution, seed=seed), make_uniforms(len(logits_RC), seed=seed)

    for row, logits in enumerate(logits_RC.double().tolist()):
        uniform, other = uniforms_R2[row].tolist()
        expected = systematic(logits, resolution=resolution, uniform=uniform, other=other)
        found = [
            pair
            for pair in zip(labels.class_ids_BK[row].tolist(), weights_of(labels)[row].tolist(), strict=True)
            if pair[1]
        ]
        if found == [] or [each for each, _ in found] != [each for each, _ in expected]:
            assert is_close_call(logits, resolution=resolution, uniform=uniform, other=other)
            continue
        assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected], rel=2e-5)


def is_close_call(logits: list[float], *, resolution: int, uniform: float, other: float) -> bool:
    """Whether a rounding of 1e-5 of a mark or a limit would change what the plain loops give."""
    ids = {
        tuple(
            class_id
            for class_id, _ in systematic(
                [logit + shift * (place % 2) for place, logit in enumerate(logits)],
                resolution=resolution,
                uniform=min(max(uniform + move, 0), 1),
                other=min(max(other + move, 0), 1),
            )
        )
        for move in (-1e-4, 0, 1e-4)
        for shift in (-1e-5, 0, 1e-5)
    }
    return len(ids) > 1


# No bias.


def test_the_expected_weight_of_each_class_is_its_probability() -> None:
    """Cross-entropy and its gradient are linear in the weights, so that this is all there is to it. In 40,000 samples
    of 300 classes a weight that is off by 9 % would be noticed of a class of probability 0.005, by 70 % of one of
    0.0001: 5 standard errors."""
    logits_1C = make_logits(rows=1, num_classes=300, scale=1.5)
    p_C = probabilities(logits_1C)[0]

    dense_RC = dense_weights(sample(logits_1C.expand(40_000, -1)))

    error_C, standard_C = dense_RC.mean(dim=0) - p_C, dense_RC.std(dim=0) / 200
    is_often_C = p_C > 1e-4
    assert is_often_C.sum() > 280
    assert (error_C.abs()[is_often_C] < 5 * standard_C[is_often_C] + 1e-7).all()
    assert error_C[~is_often_C].sum().abs() < 5 * standard_C[~is_often_C].square().sum().sqrt()
    assert (5 * standard_C[p_C > 0.005] < 0.09 * p_C[p_C > 0.005]).all()
    assert (5 * standard_C[is_often_C] < 0.7 * p_C[is_often_C]).all()


@pytest.mark.parametrize("scale", [pytest.param(0.5, marks=pytest.mark.slow), 3.0, 8.0])
def test_the_expected_cross_entropy_and_its_gradient_are_those_of_the_whole_row(scale: float) -> None:
    """Against another net's logits, of 4,000 samples of 20 rows each. A bias of 1 % of the cross-entropy, and of 2 % of
    the length of the gradient, would be noticed: 5 standard errors are less than that."""
    teacher_RC, student_RC = make_logits(rows=20, scale=scale), make_logits(rows=20, scale=2.0, seed=1).double()
    p_RC, log_q_RC = probabilities(teacher_RC), student_RC.log_softmax(dim=1)
    weights_SRC = torch.stack([dense_weights(sample(teacher_RC, seed=seed)) for seed in range(1000)])

    losses_S = -(weights_SRC * log_q_RC).sum(dim=2).mean(dim=1)
    loss = -(p_RC * log_q_RC).sum(dim=1).mean()
    gradients_SRC = log_q_RC.exp() * weights_SRC.sum(dim=2, keepdim=True) - weights_SRC
    gradient_RC = log_q_RC.exp() - p_RC
    error_RC = gradients_SRC.mean(dim=0) - gradient_RC

    standard = losses_S.std().item() / 1000**0.5
    assert abs(losses_S.mean().item() - loss.item()) < 5 * standard
    assert 5 * standard < 0.01 * loss.item()
    noise = (gradients_SRC.var(dim=0).sum() / 1000).item()  # the squared error that is expected of no bias
    assert error_RC.square().sum().item() == pytest.approx(noise, rel=0.5)


def test_a_tiny_tail_is_there_as_often_as_it_weighs() -> None:
    """A tail of 0.001 at resolution 16 has an entry of 1/256 in 26 % of rows; one that is off by 3 % of it would be
    noticed."""
    logits_1C = torch.tensor([[0.0, *[math.log(0.001 / 0.999 / 50)] * 50]])

    labels = sample(logits_1C.expand(100_000, -1))

    drawn_R = weights_of(labels)[:, 1]
    assert set(drawn_R.mul(256).round().tolist()) == {0.0, 1.0}
    standard = drawn_R.std().item() / 100_000**0.5
    assert abs(drawn_R.mean().item() - 0.001) < 5 * standard
    assert 5 * standard < 0.03 * 0.001


# The same sample.


@given(ROWS, st.integers(1, 9))
def test_a_sample_depends_on_neither_the_rows_beside_it_nor_how_many_are_looked_at_at_once(
    logits_RC: Tensor, rows: int
) -> None:
    uniforms_R2, order_R = make_uniforms(len(logits_RC)), torch.arange(len(logits_RC)).flip(0)
    whole = keep_sampled(logits_RC, resolution=16, uniforms_R2=uniforms_R2)

    in_pieces = keep_sampled(logits_RC, resolution=16, uniforms_R2=uniforms_R2, rows=rows)
    turned = keep_sampled(logits_RC[order_R], resolution=16, uniforms_R2=uniforms_R2[order_R], rows=rows)

    assert all(map(torch.equal, whole.tensors(), in_pieces.tensors()))
    assert all(one[order_R].equal(other) for one, other in zip(whole.tensors(), turned.tensors(), strict=True))


def test_logits_that_are_not_computed_yet_are_sampled_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight_CD = torch.randn(50, 8, generator=generator), torch.randn(900, 8, generator=generator)
    lazy = LazyLogits(hidden=hidden, weight_CD=weight_CD)
    uniforms_R2 = make_uniforms(50)

    found = keep_sampled(lazy, resolution=16, uniforms_R2=uniforms_R2)

    expected = keep_sampled(lazy.whole(), resolution=16, uniforms_R2=uniforms_R2)
    assert all(map(torch.equal, found.tensors(), expected.tensors()))


# Odd rows.


def entries_of(labels: SoftLabels, row: int = 0) -> list[tuple[int, float]]:
    pairs = zip(labels.class_ids_BK[row].tolist(), weights_of(labels)[row].tolist(), strict=True)
    return [(class_id, round(weight, 6)) for class_id, weight in pairs if weight > 0]


def test_classes_without_probability_are_never_drawn() -> None:
    logits_RC = make_logits(rows=300, num_classes=400, scale=0.1)
    logits_RC[:, ::2] = -math.inf

    labels = sample(logits_RC)

    assert (labels.class_ids_BK[weights_of(labels) > 0] % 2 == 1).all()
    torch.testing.assert_close(weights_of(labels).sum(dim=1), torch.ones(300, dtype=torch.float64), rtol=0, atol=1e-6)


def test_of_a_row_that_is_sure_there_is_one_entry() -> None:
    logits_RC = torch.full((1, 700), -math.inf)
    logits_RC[0, 650] = 3.0

    labels = sample(logits_RC)

    assert entries_of(labels) == [(650, 1.0)]
    assert labels.entropy_B is not None
    assert labels.entropy_B.tolist() == [0.0]


@pytest.mark.parametrize("num_classes", [1, 2, 15, 16, 17, 300, 5000])
def test_of_equal_classes_the_first_come_first(num_classes: int) -> None:
    labels = sample(torch.zeros(3, num_classes))

    num_head = num_classes if num_classes <= 16 else 1
    assert labels.class_ids_BK[:, :num_head].tolist() == [list(range(num_head))] * 3
    torch.testing.assert_close(weights_of(labels).sum(dim=1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)
    assert len(entries_of(labels)) == min(num_classes, 17)


def test_a_likeliest_class_that_is_less_likely_than_the_resolution_is_kept_nevertheless() -> None:
    logits_RC = torch.zeros(1, 1000)
    logits_RC[0, 700] = 1.0

    labels = sample(logits_RC)

    assert entries_of(labels)[0] == (700, round(math.e / (999 + math.e), 6))
    assert len(entries_of(labels)) == 17


@pytest.mark.parametrize(
    "row",
    [[math.nan, *[0.0] * 99], [0.0] * 99 + [math.nan], [-math.inf] * 100, [math.inf, *[0.0] * 99]],
    ids=["a NaN", "a NaN at the end", "no class at all", "an infinite one"],
)
def test_a_row_that_is_none_is_told_by_its_entropy_and_disturbs_no_other(row: list[float]) -> None:
    logits_RC = make_logits(rows=3, num_classes=100)
    expected = sample(logits_RC)
    logits_RC[1] = torch.tensor(row)

    labels = sample(logits_RC)

    assert labels.entropy_B is not None
    assert labels.entropy_B.isnan().tolist() == [False, True, False]
    assert ((labels.class_ids_BK >= 0) & (labels.class_ids_BK < 100)).all()
    assert all(one[::2].equal(other[::2]) for one, other in zip(labels.tensors(), expected.tensors(), strict=True))


def test_the_numbers_of_a_single_row_lie_side_by_side() -> None:
    labels = sample(torch.randn(1, 40), resolution=4)

    assert labels.max_logit_B.stride() == (1,)


def test_no_rows_are_no_labels() -> None:
    labels = sample(make_logits(rows=0))

    assert (len(labels), labels.k, labels.num_classes) == (0, 17, 500)


@pytest.mark.parametrize("resolution", [0, -1, 255])
def test_a_resolution_that_a_byte_does_not_hold_is_refused(resolution: int) -> None:
    with pytest.raises(InvalidOption, match=r"Choose `dump\.resolution` from 1 to 254"):
        sample(make_logits(rows=1), resolution=resolution)


def test_half_precision_is_sampled_in_float32() -> None:
    logits_RC = make_logits(rows=5).bfloat16()

    assert all(map(torch.equal, sample(logits_RC).tensors(), sample(logits_RC.float()).tensors()))


@pytest.mark.parametrize("ask", [lambda labels: labels.log_tail_at(1.0), dense_probabilities])
def test_a_sample_has_no_tail_and_no_probability_for_each_class(ask: Callable[[SoftLabels], Tensor]) -> None:
    """A class that was drawn twice would have the weight of one draw, and one that wasn't drawn none."""
    with pytest.raises(StoreMismatch, match=r"outside the kept classes needs .* samples of its classes"):
        ask(sample(make_logits(3)))
