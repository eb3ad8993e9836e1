import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, multi_margin_loss

from softlab.labels.losses import argmax_loss, hard_cross_entropy, hinge_loss
from tests.labels.losses.lessons import Lesson, assert_same_loss, gradient, lessons, make_lesson

# Shape letters: B rows in a batch, C classes.


@given(lessons())
def test_argmax_is_torchs_cross_entropy_with_the_teachers_largest(lesson: Lesson) -> None:
    assert_same_loss(
        lambda student_BC: argmax_loss(student_BC, lesson.labels),
        lambda student_BC: cross_entropy(student_BC, lesson.teacher_BC.argmax(dim=1)),
        lesson.student_BC,
    )


@given(lesson=lessons(), margin=st.sampled_from([0.5, 1.0, 7.0]))
def test_hinge_is_torchs_multi_margin_loss_against_the_teachers_largest(lesson: Lesson, margin: float) -> None:
    assert_same_loss(
        lambda student_BC: hinge_loss(student_BC, lesson.labels, margin=margin),
        lambda student_BC: multi_margin_loss(student_BC, lesson.teacher_BC.argmax(dim=1), margin=margin),
        lesson.student_BC,
    )


def test_hinge_adds_up_every_violation() -> None:
    lesson = make_lesson(rows=1, num_classes=3, k=1)
    student_BC = torch.tensor([[1.0, 1.5, -3.0]])
    leader = int(lesson.labels.class_ids_BK[0, 0])

    loss = hinge_loss(student_BC, lesson.labels, margin=1.0)

    lead = student_BC[0, leader]
    expected = sum(max(0.0, 1 - float(lead - student_BC[0, other])) for other in range(3) if other != leader) / 3
    assert loss.item() == pytest.approx(expected)


@given(lesson=lessons(), label_smoothing=st.sampled_from([0.0, 0.1, 1.0]))
def test_hard_cross_entropy_is_torchs_over_the_rows_with_a_target(lesson: Lesson, label_smoothing: float) -> None:
    known_B = lesson.targets_B >= 0
    if not known_B.any():
        lesson.targets_B[0] = 0
        known_B[0] = True

    assert_same_loss(
        lambda student_BC: hard_cross_entropy(student_BC, lesson.targets_B, label_smoothing=label_smoothing),
        lambda student_BC: cross_entropy(
            student_BC[known_B], lesson.targets_B[known_B], label_smoothing=label_smoothing
        ),
        lesson.student_BC,
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_without_any_target_hard_cross_entropy_is_0_and_teaches_nothing(label_smoothing: float) -> None:
    student_BC = make_lesson(rows=4).student_BC.requires_grad_()

    loss = hard_cross_entropy(student_BC, torch.full((4,), -1), label_smoothing=label_smoothing)

    assert loss.item() == 0
    assert not gradient(loss, student_BC).any()
