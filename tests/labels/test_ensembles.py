from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import log_softmax, mse_loss, softmax
from torch.testing import assert_close

from softlab.errors import InterpolatedTail, InvalidOption, StoreMismatch
from softlab.labels.ensembles import CombineBy, combine
from softlab.labels.losses import LossName, decision_loss, distillation_loss, logit_mse_loss
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import (
    TEMPERATURES,
    assert_same_loss,
    dense_log_probabilities,
    gradient,
    loss_with,
    make_lesson,
)
from tests.labels.panels import Panel, dense_logits, dense_mean, mean_of_logits, panels

# Shape letters: B rows in a batch, S teachers, C classes, K entries kept (K <= C).

MEANS: tuple[CombineBy, ...] = ("probabilities", "logits")
EACH_MEAN = pytest.mark.parametrize("by", MEANS)
AT_TEMPERATURES = st.sampled_from(TEMPERATURES)
LOSSES: tuple[LossName, ...] = ("kl", "reverse_kl", "symmetric_kl", "jensen_shannon", "dkd", "dist", "argmax", "hinge")


def combine_panel(panel: Panel, *, by: CombineBy, temperature: float) -> SoftLabels:
    return combine(panel.labels, panel.weights_BS, by=by, temperature=temperature)


def defined_mean(panel: Panel, *, by: CombineBy, temperature: float) -> Tensor:
    """Of teachers of which none rules out all that another says: else their geometric mean is 0 of 0."""
    mean_BC = dense_mean(panel, by=by, temperature=temperature)
    assume(not mean_BC.isnan().any())
    return mean_BC


def dense(labels: SoftLabels, *, temperature: float) -> Tensor:
    return dense_log_probabilities(labels, temperature=temperature, tail="uniform").exp()


def labels_of(*logits: list[float], k: int) -> SoftLabels:
    return keep_top_k(torch.tensor(logits), k=k)


def weights(*row: float, rows: int = 1) -> Tensor:
    return torch.tensor([row]).expand(rows, -1)


def assert_valid(labels: SoftLabels) -> None:
    """As `SoftLabels` describes its fields."""
    assert labels.class_ids_BK.dtype == torch.int64
    assert all(len(set(row)) == labels.k for row in labels.class_ids_BK.tolist())
    assert 0 <= labels.class_ids_BK.min() <= labels.class_ids_BK.max() < labels.num_classes
    assert (labels.logits_BK[:, 0] == 0).all()
    assert (labels.logits_BK.diff(dim=1) <= 0).all()
    assert (labels.log_tail_BT <= 0).all()
    assert labels.logits_BK.isfinite().all()
    assert labels.max_logit_B.isfinite().all()
    assert {each.dtype for each in (labels.logits_BK, labels.log_tail_BT, labels.max_logit_B)} == {torch.float32}
    assert labels.log_tail_BT.shape == (len(labels), 1)
    if labels.k == labels.num_classes:
        assert labels.log_tail_BT.isneginf().all()


# Against the definition.


@EACH_MEAN
@given(panel=panels(), temperature=AT_TEMPERATURES)
def test_every_class_has_the_mean_of_what_the_teachers_give_it(by: CombineBy, panel: Panel, temperature: float) -> None:
    expected_BC = defined_mean(panel, by=by, temperature=temperature)

    combined = combine_panel(panel, by=by, temperature=temperature)

    found_BC = dense(combined, temperature=temperature)
    assert_close(found_BC, expected_BC, rtol=2e-5, atol=1e-30)


@EACH_MEAN
@given(panel=panels(), temperature=AT_TEMPERATURES)
def test_the_distillation_loss_is_that_against_the_dense_mean(by: CombineBy, panel: Panel, temperature: float) -> None:
    expected_BC = defined_mean(panel, by=by, temperature=temperature)

    def expected(student_BC: Tensor) -> Tensor:
        log_q_BC = log_softmax(student_BC / temperature, dim=1)
        kl_BC: Tensor = torch.special.xlogy(expected_BC, expected_BC) - expected_BC * log_q_BC
        return temperature**2 * kl_BC.sum(dim=1).mean()

    combined = combine_panel(panel, by=by, temperature=temperature)

    assert_same_loss(
        lambda student_BC: distillation_loss(student_BC, combined, temperature=temperature),
        expected,
        panel.student_BC,
        atol=1e-5 * max(temperature**2, 1),
    )


@given(panel=panels(with_tail=True), temperature=AT_TEMPERATURES)
def test_the_mean_of_logits_is_one_of_raw_logits(panel: Panel, temperature: float) -> None:
    combined = combine_panel(panel, by="logits", temperature=temperature)

    found_BC = dense_logits(combined, temperature=temperature)
    expected_BC = mean_of_logits(panel, temperature=temperature)
    assert_close(found_BC, expected_BC, rtol=1e-5, atol=1e-5 * max(temperature, 5))


@EACH_MEAN
@given(panel=panels(scales=(0.01, 1.0, 1e4)), temperature=AT_TEMPERATURES)
def test_what_is_returned_are_soft_labels_of_one_temperature(by: CombineBy, panel: Panel, temperature: float) -> None:
    combined = combine_panel(panel, by=by, temperature=temperature)

    assert_valid(combined)
    assert combined.k == min(sum(each.k for each in panel.labels), panel.num_classes)
    assert combined.temperatures == (temperature,)
    assert combined.num_classes == panel.num_classes


# What follows from it.


@EACH_MEAN
@pytest.mark.parametrize("k", [1, 3, 10])
def test_one_teacher_is_itself(by: CombineBy, k: int) -> None:
    labels = make_lesson(k=k).labels

    alone = combine([labels], weights(1.0, rows=4), by=by, temperature=2.0)

    assert alone.class_ids_BK.equal(labels.class_ids_BK)
    assert_close(alone.logits_BK, labels.logits_BK, rtol=1e-6, atol=1e-6)
    assert_close(alone.log_tail_at(2.0), labels.log_tail_at(2.0), rtol=1e-6, atol=1e-6)
    if by == "logits":
        assert_close(alone.max_logit_B, labels.max_logit_B, rtol=1e-6, atol=1e-6)


@EACH_MEAN
@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_on_one_teacher_is_that_on_its_own_labels(name: LossName, k: int, by: CombineBy) -> None:
    lesson = make_lesson(k=k, teacher_scale=30.0)  # the least probabilities are of 1e-40 and below
    options = loss_with(name, temperature=1.0)

    alone = combine([lesson.labels], weights(1.0, rows=4), by=by, temperature=1.0)

    found = decision_loss(lesson.student_BC, alone, targets_B=lesson.targets_B, options=options)
    expected = decision_loss(lesson.student_BC, lesson.labels, targets_B=lesson.targets_B, options=options)
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


@EACH_MEAN
@given(panel=panels(), temperature=AT_TEMPERATURES)
def test_a_teacher_of_weight_0_is_not_heard(by: CombineBy, panel: Panel, temperature: float) -> None:
    expected_BC = defined_mean(panel, by=by, temperature=temperature)
    silent = make_lesson(rows=len(panel.student_BC), num_classes=panel.num_classes, k=2, seed=7).labels
    weights_BS = torch.cat([panel.weights_BS, torch.zeros(len(silent), 1)], dim=1)

    found = combine([*panel.labels, silent], weights_BS, by=by, temperature=temperature)

    assert_close(dense(found, temperature=temperature), expected_BC, rtol=2e-5, atol=1e-30)


@EACH_MEAN
@given(panel=panels(), temperature=AT_TEMPERATURES)
def test_the_order_of_the_teachers_does_not_matter(by: CombineBy, panel: Panel, temperature: float) -> None:
    expected_BC = defined_mean(panel, by=by, temperature=temperature)

    found = combine(panel.labels[::-1], panel.weights_BS.flip(1), by=by, temperature=temperature)

    assert_close(dense(found, temperature=temperature), expected_BC, rtol=2e-5, atol=1e-30)


@given(panel=panels(), temperature=AT_TEMPERATURES)
def test_the_gradient_against_the_mean_of_probabilities_is_the_mean_of_those_against_each_teacher(
    panel: Panel, temperature: float
) -> None:
    """So learning from the mean is learning from all at once: their losses differ by a constant."""
    student_BC = panel.student_BC.detach().requires_grad_()

    combined = combine_panel(panel, by="probabilities", temperature=temperature)
    found_BC = gradient(distillation_loss(student_BC, combined, temperature=temperature), student_BC)

    each = [gradient(distillation_loss(student_BC, one, temperature=temperature), student_BC) for one in panel.labels]
    expected_BC = (panel.weights_BS[:, :, None] * torch.stack(each, dim=1)).sum(dim=1)
    assert_close(found_BC, expected_BC, rtol=1e-4, atol=2e-6 * max(temperature, 1))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_of_all_classes_the_mean_of_logits_is_that_of_raw_logits_at_any_temperature(temperature: float) -> None:
    one, other = make_lesson(k=10, teacher_offset=7.0), make_lesson(k=10, seed=1)

    combined = combine([one.labels, other.labels], weights(0.25, 0.75, rows=4), by="logits", temperature=temperature)

    mean_BC = 0.25 * one.teacher_BC + 0.75 * other.teacher_BC
    expected = keep_top_k(mean_BC, k=10)
    assert combined.class_ids_BK.equal(expected.class_ids_BK)
    assert_close(combined.logits_BK, expected.logits_BK, rtol=1e-5, atol=1e-5)
    assert_close(combined.max_logit_B, expected.max_logit_B, rtol=1e-5, atol=1e-5)
    assert_close(logit_mse_loss(one.student_BC, combined), mse_loss(one.student_BC, mean_BC), rtol=1e-5, atol=1e-5)


def test_of_all_classes_the_mean_of_probabilities_is_that_of_softmaxes() -> None:
    one, other = make_lesson(k=10), make_lesson(k=10, seed=1)

    combined = combine([one.labels, other.labels], weights(0.25, 0.75, rows=4), by="probabilities", temperature=3.0)

    expected_BC = 0.25 * softmax(one.teacher_BC / 3, dim=1) + 0.75 * softmax(other.teacher_BC / 3, dim=1)
    assert_close(dense(combined, temperature=3.0).float(), expected_BC)


# The union of the kept classes.


def test_rows_of_a_smaller_union_are_filled_up_with_classes_outside_it() -> None:
    """In the first row both keep classes 0 and 3, in the second they keep four."""
    one = labels_of([9, 0, 0, 8, 0, 0], [9, 8, 0, 0, 0, 0], k=2)
    other = labels_of([7, 0, 0, 9, 0, 0], [0, 0, 0, 0, 6, 9], k=2)

    combined = combine([one, other], weights(0.5, 0.5, rows=2), by="probabilities", temperature=1.0)

    assert combined.class_ids_BK.tolist() == [[3, 0, 1, 2], [5, 0, 1, 4]]
    filled = dense(combined, temperature=1.0)[0]
    assert_close(filled[[1, 2]], filled[[4, 5]], rtol=1e-6, atol=0)


@EACH_MEAN
@pytest.mark.parametrize(("k", "expected"), [(2, 4), (3, 5), (4, 5), (5, 5)])
def test_a_union_never_has_more_classes_than_there_are(by: CombineBy, k: int, expected: int) -> None:
    one, other = labels_of([5, 4, 3, 2, 1], k=k), labels_of([1, 2, 3, 4, 5], k=k)

    combined = combine([one, other], weights(0.5, 0.5), by=by, temperature=1.0)

    assert_valid(combined)
    assert combined.k == expected


@EACH_MEAN
def test_teachers_without_a_tail_leave_none(by: CombineBy) -> None:
    labels = labels_of([5, 4, 3, 2, 1], k=2)
    bare = replace(labels, log_tail_BT=torch.full_like(labels.log_tail_BT, -torch.inf))

    combined = combine([bare, bare], weights(0.5, 0.5), by=by, temperature=1.0)

    assert combined.log_tail_BT.isneginf().all()
    assert_close(dense(combined, temperature=1.0), dense(bare, temperature=1.0))


def test_what_one_teacher_rules_out_has_nothing_in_the_geometric_mean_and_half_in_the_arithmetic() -> None:
    labels = labels_of([5, 4, 3, 2, 1], k=2)
    bare, full = replace(labels, log_tail_BT=torch.full_like(labels.log_tail_BT, -torch.inf)), labels_of([0] * 5, k=5)

    geometric, arithmetic = (combine([bare, full], weights(0.5, 0.5), by=by, temperature=1.0) for by in MEANS[::-1])

    assert dense(geometric, temperature=1.0)[0, 2:].tolist() == [0, 0, 0]
    assert dense(arithmetic, temperature=1.0)[0, 2:].tolist() == pytest.approx([0.1, 0.1, 0.1])


# Extremes.


@EACH_MEAN
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_huge_logits_give_finite_losses_and_gradients(by: CombineBy, temperature: float) -> None:
    one = keep_top_k(torch.tensor([[1e4, -1e4, 0, 3, -5], [1e4, 1e4, 0, 0, -1e4]]), k=2, temperatures=TEMPERATURES)
    other = keep_top_k(torch.tensor([[-1e4, 1e4, 0, 0, 2], [0, 0, 0, 0, 0]]), k=3, temperatures=TEMPERATURES)
    student_BC = torch.tensor([[1e4, -1e4, 0, 0, 0], [0, 1, 2, 3, -1e4]], requires_grad=True)

    combined = combine([one, other], weights(0.5, 0.5, rows=2), by=by, temperature=temperature)

    assert_valid(combined)
    loss = distillation_loss(student_BC, combined, temperature=temperature)
    assert loss.isfinite()
    assert gradient(loss, student_BC).isfinite().all()


@EACH_MEAN
def test_a_tail_that_rounding_made_everything_gives_finite_labels(by: CombineBy) -> None:
    labels = labels_of([0.0] * 9, k=1)
    all_tail = replace(labels, log_tail_BT=torch.zeros_like(labels.log_tail_BT))

    combined = combine([all_tail, labels], weights(0.5, 0.5), by=by, temperature=1.0)

    assert_valid(combined)
    assert distillation_loss(torch.zeros(1, 9), combined, temperature=1.0).isfinite()


@EACH_MEAN
def test_teachers_that_rule_out_each_others_classes_give_finite_labels(by: CombineBy) -> None:
    both = [labels_of([5, 1, 1], k=1), labels_of([1, 5, 1], k=1)]
    bare = [replace(each, log_tail_BT=torch.full_like(each.log_tail_BT, -torch.inf)) for each in both]

    combined = combine(bare, weights(0.5, 0.5), by=by, temperature=1.0)

    assert_valid(combined)
    assert dense(combined, temperature=1.0).tolist() == [[0.5, 0.5, 0]]


# Temperatures, devices, refusals.


def test_a_temperature_between_the_stored_ones_is_interpolated_with_a_warning() -> None:
    lesson = make_lesson(k=3)

    with pytest.warns(InterpolatedTail, match="temperature 3 is not stored"):
        combined = combine([lesson.labels], weights(1.0, rows=4), by="probabilities", temperature=3.0)

    with pytest.warns(InterpolatedTail):
        assert_close(combined.log_tail_at(3.0), lesson.labels.log_tail_at(3.0))


@EACH_MEAN
def test_a_temperature_below_the_stored_ones_of_any_teacher_is_refused(by: CombineBy) -> None:
    logits_BC = make_lesson().teacher_BC
    labels = [keep_top_k(logits_BC, k=3), keep_top_k(logits_BC, k=3, temperatures=(2.0, 4.0))]

    with pytest.raises(InvalidOption, match=r"temperature 1: .* Train at 2 or more, or dump again"):
        combine(labels, weights(0.5, 0.5, rows=4), by=by, temperature=1.0)


def test_teachers_over_different_classes_are_refused() -> None:
    labels = [make_lesson(num_classes=10).labels, make_lesson(num_classes=12).labels]

    with pytest.raises(StoreMismatch) as caught:
        combine(labels, weights(0.5, 0.5, rows=4), by="logits", temperature=1.0)
    assert str(caught.value) == "the teachers have 10, 12 classes. Combine teachers over the same classes."


def test_teachers_with_a_sigmoid_head_are_refused() -> None:
    labels = [make_lesson().labels, make_lesson(head="sigmoid").labels]

    with pytest.raises(StoreMismatch) as caught:
        combine(labels, weights(0.5, 0.5, rows=4), by="logits", temperature=1.0)
    assert str(caught.value) == (
        "teachers with a softmax head are combined, but these have softmax, sigmoid heads. Train from one of them."
    )


@EACH_MEAN
@pytest.mark.parametrize("ks", [(3, 2), (10, 3)])
def test_everything_stays_on_the_labels_own_device(by: CombineBy, ks: tuple[int, int]) -> None:
    labels = [make_lesson(k=k).labels.to("meta") for k in ks]

    combined = combine(labels, weights(0.5, 0.5, rows=4).to("meta"), by=by, temperature=1.0)

    tensors = (combined.class_ids_BK, combined.logits_BK, combined.log_tail_BT, combined.max_logit_B)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.gpu
@EACH_MEAN
@pytest.mark.parametrize("ks", [(3, 2), (10, 3)])
def test_on_a_gpu_it_is_the_same(by: CombineBy, ks: tuple[int, int]) -> None:
    labels = [make_lesson(k=k, seed=k).labels for k in ks]
    weights_BS = weights(0.25, 0.75, rows=4)

    found = combine([each.to("cuda") for each in labels], weights_BS.cuda(), by=by, temperature=2.0).to("cpu")

    expected = combine(labels, weights_BS, by=by, temperature=2.0)
    assert found.class_ids_BK.equal(expected.class_ids_BK)
    assert_close(found.logits_BK, expected.logits_BK, rtol=1e-5, atol=1e-5)
    assert_close(found.log_tail_BT, expected.log_tail_BT, rtol=1e-5, atol=1e-5)
