import dataclasses
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from softlab.errors import InterpolatedTail, InvalidOption, StoreMismatch
from softlab.labels.losses import Tail, distillation_loss, kl_rows
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import TEMPERATURES, Lesson, dense_pair, gradient, in_bucket, lessons, make_lesson

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), R classes of the distributions compared.

TAILS: tuple[Tail, ...] = ("uniform", "bucket", "renormalise", "renormalise_both")


def dense_loss(student_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail) -> Tensor:
    """The definition, in float64, over dense distributions that torch's own kl_div compares."""
    student_BR, teacher_BR = dense_pair(student_BC, labels, temperature=temperature, tail=tail)
    return temperature**2 * kl_div(student_BR, teacher_BR.exp(), reduction="batchmean")


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES))
def test_the_loss_is_that_of_the_dense_distributions(tail: Tail, lesson: Lesson, temperature: float) -> None:
    loss = distillation_loss(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)

    expected = dense_loss(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=5e-6 * temperature**2)


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES))
def test_the_gradient_is_that_of_the_dense_distributions(tail: Tail, lesson: Lesson, temperature: float) -> None:
    student_BC = lesson.student_BC.requires_grad_()

    loss = distillation_loss(student_BC, lesson.labels, temperature=temperature, tail=tail)

    expected = dense_loss(student_BC, lesson.labels, temperature=temperature, tail=tail)
    torch.testing.assert_close(
        gradient(loss, student_BC), gradient(expected, student_BC), rtol=1e-4, atol=5e-6 * max(temperature, 1)
    )


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_with_every_class_kept_it_is_the_loss_with_the_teacher_in_the_loop(tail: Tail, temperature: float) -> None:
    lesson = make_lesson(num_classes=50, k=50)

    loss = distillation_loss(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)

    expected = temperature**2 * kl_div(
        log_softmax(lesson.student_BC.double() / temperature, dim=1),
        softmax(lesson.teacher_BC.double() / temperature, dim=1),
        reduction="batchmean",
    )
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6 * temperature**2)


def test_a_student_that_says_what_the_teacher_said_loses_nothing() -> None:
    lesson = make_lesson(num_classes=50, k=50)

    loss = distillation_loss(lesson.teacher_BC, lesson.labels, temperature=4.0)

    assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("tail", TAILS)
def test_rows_have_their_own_loss(tail: Tail) -> None:
    lesson = make_lesson(rows=6)

    loss_B = kl_rows(lesson.student_BC, lesson.labels, temperature=2.0, tail=tail)

    assert loss_B.shape == (6,)
    total = distillation_loss(lesson.student_BC, lesson.labels, temperature=2.0, tail=tail)
    torch.testing.assert_close(total, 4 * loss_B.mean())


@pytest.mark.parametrize("tail", ["uniform", "bucket"])
def test_without_a_tail_the_kept_classes_are_everything(tail: Tail) -> None:
    lesson = make_lesson()
    labels = dataclasses.replace(lesson.labels, log_tail_BT=torch.full_like(lesson.labels.log_tail_BT, -math.inf))
    student_BC = lesson.student_BC.requires_grad_()

    loss = distillation_loss(student_BC, labels, temperature=2.0, tail=tail)

    expected = distillation_loss(student_BC, labels, temperature=2.0, tail="renormalise")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, student_BC), gradient(expected, student_BC))


def test_a_teacher_that_says_nothing_about_the_kept_classes_teaches_a_flat_rest() -> None:
    """A float16 log tail of nearly 0 rounds to 0."""
    lesson = make_lesson()
    labels = dataclasses.replace(lesson.labels, log_tail_BT=torch.zeros_like(lesson.labels.log_tail_BT))

    loss = distillation_loss(lesson.student_BC, labels, temperature=2.0, tail="uniform")

    expected = dense_loss(lesson.student_BC, labels, temperature=2.0, tail="uniform")
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tail", ["renormalise", "renormalise_both"])
def test_a_tail_that_is_dropped_is_not_looked_at(tail: Tail) -> None:
    lesson = make_lesson()
    nonsense = dataclasses.replace(lesson.labels, log_tail_BT=torch.full_like(lesson.labels.log_tail_BT, math.nan))

    loss = distillation_loss(lesson.student_BC, nonsense, temperature=3.0, tail=tail)

    expected = distillation_loss(lesson.student_BC, lesson.labels, temperature=3.0, tail=tail)
    torch.testing.assert_close(loss, expected)


@given(lesson=lessons(), offset=st.sampled_from([-30.0, 1.0, 30.0]))
def test_renormalised_on_both_sides_the_student_may_give_the_other_classes_anything(
    lesson: Lesson, offset: float
) -> None:
    kept_BK = lesson.student_BC.gather(1, lesson.labels.class_ids_BK)
    other_BC = (lesson.student_BC + offset).scatter(1, lesson.labels.class_ids_BK, kept_BK).requires_grad_()

    loss = distillation_loss(other_BC, lesson.labels, temperature=2.0, tail="renormalise_both")

    expected = distillation_loss(lesson.student_BC, lesson.labels, temperature=2.0, tail="renormalise_both")
    assert loss.equal(expected)
    outside_BC = gradient(loss, other_BC).scatter(1, lesson.labels.class_ids_BK, 0.0)
    assert outside_BC.count_nonzero() == 0


@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES))
def test_a_bucket_is_the_kept_classes_among_themselves_and_all_of_them_against_the_others(
    lesson: Lesson, temperature: float
) -> None:
    """The chain rule of KL."""
    student_BC, labels = lesson.student_BC, lesson.labels

    bucket_B = kl_rows(student_BC, labels, temperature=temperature, tail="bucket")
    within_B = kl_rows(student_BC, labels, temperature=temperature, tail="renormalise_both")

    log_q_BC, log_p_BC = dense_pair(student_BC, labels, temperature=temperature, tail="uniform")
    p_B2, q_B2 = (kept_and_others(log_BC, labels) for log_BC in (log_p_BC, log_q_BC))
    between_B = (torch.special.xlogy(p_B2, p_B2) - torch.special.xlogy(p_B2, q_B2)).sum(dim=1)
    torch.testing.assert_close(bucket_B.double(), p_B2[:, 0] * within_B + between_B, rtol=1e-5, atol=1e-5)


def kept_and_others(log_BC: Tensor, labels: SoftLabels) -> Tensor:
    """Probability of all kept classes, and of all others, [B, 2]."""
    in_bucket_BR = in_bucket(log_BC, labels).exp()
    return torch.stack([in_bucket_BR[:, :-1].sum(dim=1), in_bucket_BR[:, -1]], dim=1)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("student_scale", [1e2, 1e4, 1e6])
def test_a_student_with_extreme_logits_still_learns(tail: Tail, student_scale: float) -> None:
    lesson = make_lesson(student_scale=student_scale)
    student_BC = lesson.student_BC.requires_grad_()

    loss = distillation_loss(student_BC, lesson.labels, temperature=1.0, tail=tail)

    expected = dense_loss(student_BC, lesson.labels, temperature=1.0, tail=tail)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient(loss, student_BC), gradient(expected, student_BC), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("offset", [-1000.0, 1000.0])
def test_a_constant_on_all_logits_of_a_student_changes_nothing(tail: Tail, offset: float) -> None:
    lesson = make_lesson()

    loss = distillation_loss(lesson.student_BC + offset, lesson.labels, temperature=1.0, tail=tail)

    expected = distillation_loss(lesson.student_BC, lesson.labels, temperature=1.0, tail=tail)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("tail", TAILS)
def test_a_student_in_half_precision_has_its_loss_in_float32(tail: Tail) -> None:
    lesson = make_lesson()
    student_BC = lesson.student_BC.bfloat16()

    loss = distillation_loss(student_BC, lesson.labels, temperature=2.0, tail=tail)

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, distillation_loss(student_BC.float(), lesson.labels, temperature=2.0, tail=tail))


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("num_outputs", [9, 11])
def test_a_student_with_other_classes_is_refused(tail: Tail, num_outputs: int) -> None:
    labels = make_lesson(num_classes=10).labels

    with pytest.raises(StoreMismatch, match=re.escape("Build the student with num_classes = 10.")):
        distillation_loss(torch.zeros(4, num_outputs), labels, temperature=1.0, tail=tail)


@pytest.mark.parametrize("tail", ["uniform", "bucket"])
@pytest.mark.parametrize(
    ("teacher_scale", "tolerance"),
    [(1.0, 1e-4), (3.0, 0.01), (10.0, 0.1)],  # relative; measured: 1e-5, 0.001 and 0.02
)
def test_a_loss_between_stored_temperatures_is_close(tail: Tail, teacher_scale: float, tolerance: float) -> None:
    lesson = make_lesson(rows=64, num_classes=1000, k=16, teacher_scale=teacher_scale)
    stored = keep_top_k(lesson.teacher_BC, k=16, temperatures=(1.0, 2.0, 4.0))

    with pytest.warns(InterpolatedTail):
        loss = distillation_loss(lesson.student_BC, stored, temperature=3.0, tail=tail)

    exact = keep_top_k(lesson.teacher_BC, k=16, temperatures=(3.0,))
    expected = distillation_loss(lesson.student_BC, exact, temperature=3.0, tail=tail)
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("tail", ["uniform", "bucket"])
def test_a_temperature_below_the_stored_ones_is_refused(tail: Tail) -> None:
    lesson = make_lesson()

    with pytest.raises(InvalidOption, match=re.escape("dump again with 0.25 among `dump.temperature`.")):
        distillation_loss(lesson.student_BC, lesson.labels, temperature=0.25, tail=tail)


@pytest.mark.gpu
@pytest.mark.parametrize("tail", TAILS)
def test_a_gpu_computes_the_same_loss(tail: Tail) -> None:
    lesson = make_lesson(rows=64, num_classes=1000, k=16)

    loss = distillation_loss(lesson.student_BC.cuda(), lesson.labels.to("cuda"), temperature=2.0, tail=tail)

    expected = dense_loss(lesson.student_BC, lesson.labels, temperature=2.0, tail=tail)
    torch.testing.assert_close(loss.cpu().double(), expected, rtol=1e-5, atol=1e-5)
