import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from softlab.errors import InterpolatedTail, InvalidOption, StoreMismatch
from softlab.labels.losses import Tail, binary_cross_entropy_loss
from softlab.labels.selection import keep_top_k
from tests.labels.losses.lessons import TEMPERATURES, Lesson, assert_same_loss, lessons, make_lesson

# Shape letters: B rows in a batch, C classes.

TEACHERS = lessons(head="sigmoid")


def dense_targets(lesson: Lesson, temperature: float) -> Tensor:
    """float64 [B, C]: kept classes as the teacher had them, the others all at the mean of their probabilities."""
    p_BC = (lesson.teacher_BC.double() / temperature).sigmoid()
    is_kept_BC = torch.zeros_like(p_BC, dtype=torch.bool).scatter(1, lesson.labels.class_ids_BK, True)
    num_tail = (~is_kept_BC).sum(dim=1, keepdim=True).clamp(min=1)
    return p_BC.where(is_kept_BC, (p_BC.where(~is_kept_BC, 0.0).sum(dim=1, keepdim=True) / num_tail))


@given(lesson=TEACHERS, temperature=st.sampled_from(TEMPERATURES))
def test_it_is_torchs_loss_with_the_mean_probability_outside(lesson: Lesson, temperature: float) -> None:
    targets_BC = dense_targets(lesson, temperature)

    assert_same_loss(
        lambda student_BC: binary_cross_entropy_loss(student_BC, lesson.labels, temperature=temperature),
        lambda student_BC: temperature**2 * binary_cross_entropy_with_logits(student_BC / temperature, targets_BC),
        lesson.student_BC,
        atol=5e-6 * max(temperature**2, 1),
    )


@given(lesson=TEACHERS, temperature=st.sampled_from(TEMPERATURES))
def test_renormalise_is_torchs_loss_on_the_kept_classes(lesson: Lesson, temperature: float) -> None:
    ids_BK = lesson.labels.class_ids_BK
    targets_BK = (lesson.teacher_BC.double().gather(1, ids_BK) / temperature).sigmoid()

    def expected(student_BC: Tensor) -> Tensor:
        scaled_BK = student_BC.gather(1, ids_BK) / temperature
        return temperature**2 * binary_cross_entropy_with_logits(scaled_BK, targets_BK)

    assert_same_loss(
        lambda student_BC: binary_cross_entropy_loss(
            student_BC, lesson.labels, temperature=temperature, tail="renormalise"
        ),
        expected,
        lesson.student_BC,
        atol=5e-6 * max(temperature**2, 1),
    )


@pytest.mark.parametrize("tail", ["uniform", "renormalise"])
def test_with_every_class_kept_it_is_the_loss_with_the_teacher_in_the_loop(tail: Tail) -> None:
    lesson = make_lesson(num_classes=20, k=20, teacher_offset=-3.0, head="sigmoid")

    loss = binary_cross_entropy_loss(lesson.student_BC, lesson.labels, temperature=1.0, tail=tail)

    expected = binary_cross_entropy_with_logits(lesson.student_BC, lesson.teacher_BC.sigmoid())
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_in_total_the_teachers_probabilities_are_exact_however_few_are_kept() -> None:
    """A student with the same logit everywhere can't tell which class has which probability."""
    lesson = make_lesson(num_classes=1000, k=16, teacher_offset=-5.0, head="sigmoid")
    student_BC = torch.full_like(lesson.student_BC, -1.5)

    loss = binary_cross_entropy_loss(student_BC, lesson.labels, temperature=2.0)

    expected = 4 * binary_cross_entropy_with_logits(student_BC / 2, (lesson.teacher_BC / 2).sigmoid())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_a_loss_between_stored_temperatures_is_close() -> None:
    lesson = make_lesson(rows=64, num_classes=1000, k=16, teacher_offset=-5.0)
    labels = keep_top_k(lesson.teacher_BC, k=16, temperatures=(1.0, 2.0, 4.0), head="sigmoid")

    with pytest.warns(InterpolatedTail):
        loss = binary_cross_entropy_loss(lesson.student_BC, labels, temperature=3.0)

    exact = keep_top_k(lesson.teacher_BC, k=16, temperatures=(3.0,), head="sigmoid")
    expected = binary_cross_entropy_loss(lesson.student_BC, exact, temperature=3.0)
    torch.testing.assert_close(loss, expected, rtol=0.005, atol=0)


def test_labels_of_a_softmax_head_are_refused() -> None:
    lesson = make_lesson(head="softmax")

    with pytest.raises(
        StoreMismatch, match=re.escape("from a softmax head. Choose as `loss.name` kl, or mse on the logits.")
    ):
        binary_cross_entropy_loss(lesson.student_BC, lesson.labels, temperature=1.0)


def test_classes_that_are_judged_each_by_itself_have_no_bucket() -> None:
    lesson = make_lesson(head="sigmoid")

    with pytest.raises(InvalidOption, match=re.escape("Choose as `loss.tail` uniform or renormalise.")):
        binary_cross_entropy_loss(lesson.student_BC, lesson.labels, temperature=1.0, tail="bucket")
