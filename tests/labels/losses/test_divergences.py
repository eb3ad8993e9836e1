import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from softlab.errors import InvalidOption
from softlab.labels.losses import Tail, distillation_loss, jensen_shannon_loss, reverse_kl_loss, symmetric_kl_loss
from tests.labels.losses.lessons import TEMPERATURES, Lesson, assert_same_loss, dense_pair, lessons, make_lesson

# Shape letters: B rows in a batch, C classes, R classes of the distributions compared.

REVERSE_TAILS: tuple[Tail, ...] = ("uniform", "bucket")
TAILS: tuple[Tail, ...] = ("uniform", "bucket", "renormalise")
SHARES = st.sampled_from([0.01, 0.3, 0.5, 0.9])


def kl(log_p_BR: Tensor, log_q_BR: Tensor) -> Tensor:
    """KL(p || q), mean over rows."""
    return kl_div(log_q_BR, log_p_BR, reduction="batchmean", log_target=True)


def mixture_kls(student_BR: Tensor, teacher_BR: Tensor, beta: float) -> Tensor:
    student_BR, teacher_BR = student_BR.exp(), teacher_BR.exp()
    mixture_BR = beta * teacher_BR + (1 - beta) * student_BR
    teacher = kl_div(mixture_BR.log(), teacher_BR, reduction="batchmean")
    return beta * teacher + (1 - beta) * kl_div(mixture_BR.log(), student_BR, reduction="batchmean")


@pytest.mark.parametrize("tail", REVERSE_TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES))
def test_reverse_kl_is_that_of_the_dense_distributions(tail: Tail, lesson: Lesson, temperature: float) -> None:
    def expected(student_BC: Tensor) -> Tensor:
        student_BR, teacher_BR = dense_pair(student_BC, lesson.labels, temperature=temperature, tail=tail)
        return temperature**2 * kl(student_BR, teacher_BR)

    assert_same_loss(
        lambda student_BC: reverse_kl_loss(student_BC, lesson.labels, temperature=temperature, tail=tail),
        expected,
        lesson.student_BC,
        atol=1e-5 * max(temperature**2, 1),
    )


@pytest.mark.parametrize("tail", REVERSE_TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES), balance=SHARES | st.sampled_from([0.0, 1.0]))
def test_symmetric_kl_is_that_of_the_dense_distributions(
    tail: Tail, lesson: Lesson, temperature: float, balance: float
) -> None:
    def loss(student_BC: Tensor) -> Tensor:
        return symmetric_kl_loss(student_BC, lesson.labels, temperature=temperature, tail=tail, balance=balance)

    def expected(student_BC: Tensor) -> Tensor:
        student_BR, teacher_BR = dense_pair(student_BC, lesson.labels, temperature=temperature, tail=tail)
        both = balance * kl(teacher_BR, student_BR) + (1 - balance) * kl(student_BR, teacher_BR)
        return temperature**2 * both

    assert_same_loss(loss, expected, lesson.student_BC, atol=1e-5 * max(temperature**2, 1))


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(scales=(0.01, 1.0, 5.0)), temperature=st.sampled_from(TEMPERATURES), beta=SHARES)
def test_jensen_shannon_is_that_of_the_dense_distributions(
    tail: Tail, lesson: Lesson, temperature: float, beta: float
) -> None:
    def loss(student_BC: Tensor) -> Tensor:
        return jensen_shannon_loss(student_BC, lesson.labels, temperature=temperature, tail=tail, beta=beta)

    def expected(student_BC: Tensor) -> Tensor:
        student_BR, teacher_BR = dense_pair(student_BC, lesson.labels, temperature=temperature, tail=tail)
        return temperature**2 * mixture_kls(student_BR, teacher_BR, beta)

    assert_same_loss(loss, expected, lesson.student_BC, atol=1e-5 * max(temperature**2, 1))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_with_every_class_kept_reverse_kl_is_that_with_the_teacher_in_the_loop(temperature: float) -> None:
    lesson = make_lesson(num_classes=50, k=50)

    loss = reverse_kl_loss(lesson.student_BC, lesson.labels, temperature=temperature)

    student_BC = log_softmax(lesson.student_BC.double() / temperature, dim=1)
    expected = kl(student_BC, log_softmax(lesson.teacher_BC.double() / temperature, dim=1))
    torch.testing.assert_close(loss.double(), temperature**2 * expected, rtol=1e-5, atol=1e-6)


def test_a_balance_of_1_is_the_forward_kl_and_of_0_the_reverse() -> None:
    lesson = make_lesson()

    forward = symmetric_kl_loss(lesson.student_BC, lesson.labels, temperature=2.0, balance=1.0)
    reverse = symmetric_kl_loss(lesson.student_BC, lesson.labels, temperature=2.0, balance=0.0)

    torch.testing.assert_close(forward, distillation_loss(lesson.student_BC, lesson.labels, temperature=2.0))
    torch.testing.assert_close(reverse, reverse_kl_loss(lesson.student_BC, lesson.labels, temperature=2.0))


def test_a_small_beta_tends_to_the_forward_kl_and_a_large_one_to_the_reverse() -> None:
    lesson = make_lesson(student_scale=1.0, teacher_scale=1.0)

    small = jensen_shannon_loss(lesson.student_BC, lesson.labels, temperature=1.0, beta=1e-3) / 1e-3
    large = jensen_shannon_loss(lesson.student_BC, lesson.labels, temperature=1.0, beta=1 - 1e-3) / 1e-3

    forward = distillation_loss(lesson.student_BC, lesson.labels, temperature=1.0)
    torch.testing.assert_close(small, forward, rtol=0.01, atol=0)
    torch.testing.assert_close(
        large, reverse_kl_loss(lesson.student_BC, lesson.labels, temperature=1.0), rtol=0.01, atol=0
    )


@pytest.mark.parametrize("loss", [reverse_kl_loss, symmetric_kl_loss])
def test_a_divergence_that_would_be_infinite_is_refused(loss: Callable[..., Tensor]) -> None:
    lesson = make_lesson()

    with pytest.raises(InvalidOption, match=re.escape("tail = renormalise: ")) as caught:
        loss(lesson.student_BC, lesson.labels, temperature=1.0, tail="renormalise")

    assert str(caught.value).endswith("Choose as `loss.tail` uniform or bucket.")
