import dataclasses
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import mse_loss

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import logit_mse_loss
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head, SoftLabels
from softlab.labels.tail_logits import tail_logits
from tests.labels.losses.lessons import Lesson, assert_same_loss, gradient, lessons, make_lesson

# Shape letters: B rows in a batch, C classes.

HEADS: tuple[Head, ...] = ("softmax", "sigmoid")


def dense_teacher(labels: SoftLabels) -> Tensor:
    """float64 [B, C]: kept logits as they were, the others all at the estimated mean of the tail."""
    max_B1 = labels.max_logit_B[:, None].double()
    kept_BK = labels.logits_BK.double() + max_B1
    if labels.k == labels.num_classes:
        return torch.zeros(len(labels), labels.num_classes, dtype=torch.float64).scatter(
            1, labels.class_ids_BK, kept_BK
        )
    mean_B1 = tail_logits(labels).mean_B[:, None].double() + max_B1
    return mean_B1.repeat(1, labels.num_classes).scatter(1, labels.class_ids_BK, kept_BK)


@pytest.mark.parametrize("head", HEADS)
@given(data=st.data())
def test_it_is_torchs_loss_on_the_dense_logits(head: Head, data: st.DataObject) -> None:
    lesson = data.draw(lessons(head=head))

    assert_same_loss(
        lambda student_BC: logit_mse_loss(student_BC, lesson.labels),
        lambda student_BC: mse_loss(student_BC, dense_teacher(lesson.labels)),
        lesson.student_BC,
        atol=2e-5,
    )


@given(lessons())
def test_renormalise_is_torchs_loss_on_the_kept_logits(lesson: Lesson) -> None:
    ids_BK = lesson.labels.class_ids_BK

    assert_same_loss(
        lambda student_BC: logit_mse_loss(student_BC, lesson.labels, tail="renormalise"),
        lambda student_BC: mse_loss(student_BC.gather(1, ids_BK), lesson.teacher_BC.double().gather(1, ids_BK)),
        lesson.student_BC,
        atol=2e-5,
    )


@pytest.mark.parametrize("head", HEADS)
def test_with_every_class_kept_it_is_the_loss_with_the_teacher_in_the_loop(head: Head) -> None:
    lesson = make_lesson(num_classes=50, k=50, teacher_offset=-20.0, head=head)

    assert_same_loss(
        lambda student_BC: logit_mse_loss(student_BC, lesson.labels),
        lambda student_BC: mse_loss(student_BC, lesson.teacher_BC.double()),
        lesson.student_BC,
    )


def test_few_kept_classes_do_not_bias_the_level_of_a_student() -> None:
    """In shares of the mean absolute gradient; measured: 0.06, and 1.2 with the logit that the tail shares at T = 1."""
    lesson = make_lesson(rows=64, num_classes=1000, k=16, teacher_scale=3.0, student_scale=0.0)
    student_BC = lesson.student_BC.requires_grad_()
    labels = keep_top_k(lesson.teacher_BC, k=16, temperatures=(1.0, 2.0, 4.0))

    ours_BC = gradient(logit_mse_loss(student_BC, labels), student_BC)

    exact_BC = gradient(mse_loss(student_BC, lesson.teacher_BC), student_BC)
    assert (ours_BC.mean() - exact_BC.mean()).abs() / exact_BC.abs().mean() < 0.1


def test_a_tail_without_mass_has_no_logit_to_learn() -> None:
    lesson = make_lesson(num_classes=10, k=4)
    labels = dataclasses.replace(lesson.labels, log_tail_BT=torch.full_like(lesson.labels.log_tail_BT, -math.inf))
    student_BC = lesson.student_BC.requires_grad_()

    loss = logit_mse_loss(student_BC, labels)

    kept_alone = logit_mse_loss(student_BC, labels, tail="renormalise")
    torch.testing.assert_close(loss, kept_alone * 4 / 10)
    torch.testing.assert_close(gradient(loss, student_BC), gradient(kept_alone, student_BC) * 4 / 10)


def test_a_bucket_has_no_logit() -> None:
    lesson = make_lesson()

    with pytest.raises(InvalidOption, match=re.escape("Choose as `loss.tail` uniform or renormalise.")):
        logit_mse_loss(lesson.student_BC, lesson.labels, tail="bucket")


def test_a_student_with_other_classes_is_refused() -> None:
    with pytest.raises(StoreMismatch, match=re.escape("Build the student with num_classes = 10.")):
        logit_mse_loss(torch.zeros(4, 9), make_lesson(num_classes=10).labels)
