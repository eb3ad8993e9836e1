from dataclasses import replace

import pytest
import torch
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.losses import distillation_loss, kl_rows
from softlab.labels.losses.compared import compare, forward_term
from softlab.labels.losses.sparse_kl import sparse_kl, target_of
from softlab.labels.losses.teacher import SparseDistribution, distribution_at
from tests.labels.losses.lessons import gradient, make_lesson

# Shape letters: B rows in a batch, C classes.


def in_float64(teacher: SparseDistribution) -> SparseDistribution:
    log_tail_B = None if teacher.log_tail_B is None else teacher.log_tail_B.double()
    return replace(teacher, log_kept_BK=teacher.log_kept_BK.double(), log_tail_B=log_tail_B)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_the_gradient_is_the_derivative_to_the_digits_of_float64(k: int, num_classes: int, temperature: float) -> None:
    lesson = make_lesson(num_classes=num_classes, k=k)
    teacher = in_float64(distribution_at(lesson.labels, temperature=temperature, tail="uniform"))

    def loss(student_BC: Tensor) -> Tensor:
        return sparse_kl(student_BC, target_of(teacher), temperature=temperature)

    assert torch.autograd.gradcheck(loss, (lesson.student_BC.double().requires_grad_(),))


@pytest.mark.parametrize("k", [3, 100])
def test_value_and_gradient_are_those_of_the_traced_formula(k: int) -> None:
    lesson = make_lesson(num_classes=100, k=k)
    student_BC = lesson.student_BC.requires_grad_()

    loss = distillation_loss(student_BC, lesson.labels, temperature=2.0)

    teacher = distribution_at(lesson.labels, temperature=2.0, tail="uniform")
    traced = compare(student_BC, teacher, temperature=2.0, tail="uniform").sum_over_classes(forward_term)
    expected = 4 * traced.mean()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient(loss, student_BC), gradient(expected, student_BC), rtol=1e-5, atol=1e-7)


def test_every_row_passes_its_own_gradient() -> None:
    lesson = make_lesson(rows=3)
    student_BC = lesson.student_BC.requires_grad_()

    rows = kl_rows(student_BC, lesson.labels, temperature=2.0)[1]

    gradient_BC = gradient(rows, student_BC)
    assert (gradient_BC.abs().sum(dim=1) > 0).tolist() == [False, True, False]


def test_a_gradient_that_is_written_down_refuses_to_be_differentiated_again() -> None:
    lesson = make_lesson(num_classes=100)
    student_BC = lesson.student_BC.requires_grad_()
    loss = distillation_loss(student_BC, lesson.labels, temperature=1.0)

    with pytest.raises(InvalidOption, match="Use the mean of kl_rows"):
        torch.autograd.grad(loss, student_BC, create_graph=True)
