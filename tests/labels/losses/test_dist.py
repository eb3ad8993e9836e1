import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.losses import Tail, dist_loss
from tests.labels.losses.lessons import (
    TEMPERATURES,
    Lesson,
    assert_same_loss,
    dense_log_probabilities,
    gradient,
    lessons,
    make_lesson,
)

# Shape letters: B rows in a batch, C classes, R rows of a matrix, N columns.

TAILS: tuple[Tail, ...] = ("uniform", "renormalise")


def dense_loss(
    student_BC: Tensor, lesson: Lesson, *, temperature: float, tail: Tail, inter: float, intra: float
) -> Tensor:
    student_BC = (student_BC / temperature).softmax(dim=1)
    teacher_BC = dense_log_probabilities(lesson.labels, temperature=temperature, tail=tail).exp()
    rows, columns = correlations(student_BC, teacher_BC), correlations(student_BC.T, teacher_BC.T)
    return temperature**2 * (inter * (1 - rows.mean()) + intra * (1 - columns.mean()))


def correlations(a_RN: Tensor, b_RN: Tensor) -> Tensor:
    """Pearson's, of each row, with 1e-8 added to the denominator."""
    a_RN, b_RN = a_RN - a_RN.mean(dim=1, keepdim=True), b_RN - b_RN.mean(dim=1, keepdim=True)
    norms_R: Tensor = a_RN.norm(dim=1) * b_RN.norm(dim=1)
    return (a_RN * b_RN).sum(dim=1) / (norms_R + 1e-8)


@pytest.mark.parametrize("tail", TAILS)
@given(
    lesson=lessons(min_rows=3, min_classes=3, scales=(0.3, 1.0, 3.0)),  # two of anything correlate by 1 or -1
    temperature=st.sampled_from(TEMPERATURES),
    inter=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_it_is_that_of_the_dense_distributions(tail: Tail, lesson: Lesson, temperature: float, inter: float) -> None:
    def loss(student_BC: Tensor) -> Tensor:
        return dist_loss(student_BC, lesson.labels, temperature=temperature, tail=tail, inter=inter, intra=0.5)

    def expected(student_BC: Tensor) -> Tensor:
        return dense_loss(student_BC, lesson, temperature=temperature, tail=tail, inter=inter, intra=0.5)

    assert_same_loss(loss, expected, lesson.student_BC, rtol=1e-4, atol=1e-4 * max(temperature**2, 1))


def test_with_the_shape_of_a_real_batch_it_is_that_of_the_dense_distributions() -> None:
    lesson = make_lesson(rows=128, num_classes=1000, k=16)

    assert_same_loss(
        lambda student_BC: dist_loss(student_BC, lesson.labels, temperature=4.0),
        lambda student_BC: dense_loss(student_BC, lesson, temperature=4.0, tail="uniform", inter=1.0, intra=1.0),
        lesson.student_BC,
    )


def test_a_student_with_the_teachers_proportions_loses_nothing() -> None:
    lesson = make_lesson(rows=8, num_classes=20, k=20)

    loss = dist_loss(lesson.teacher_BC + 3, lesson.labels, temperature=2.0)

    assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("tail", TAILS)
def test_in_one_row_no_class_correlates_and_none_teaches(tail: Tail) -> None:
    lesson = make_lesson(rows=1)
    student_BC = lesson.student_BC.requires_grad_()

    loss = dist_loss(student_BC, lesson.labels, temperature=1.0, tail=tail, inter=0.0, intra=1.0)

    assert loss.item() == pytest.approx(1)
    assert gradient(loss, student_BC).abs().max() < 1e-5


def test_a_bucket_is_no_column() -> None:
    lesson = make_lesson()

    with pytest.raises(InvalidOption, match=re.escape("Choose as `loss.tail` uniform or renormalise.")):
        dist_loss(lesson.student_BC, lesson.labels, temperature=1.0, tail="bucket")
