import dataclasses
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import kl_div

from softlab.errors import InvalidOption
from softlab.labels.losses import Tail, decoupled_kl_loss, distillation_loss
from tests.labels.losses.lessons import (
    TEMPERATURES,
    Lesson,
    assert_same_loss,
    dense_log_probabilities,
    gradient,
    lessons,
    make_lesson,
)

# Shape letters: B rows in a batch, C classes.

TAILS: tuple[Tail, ...] = ("uniform", "renormalise")


def dense_loss(
    student_BC: Tensor, lesson: Lesson, *, temperature: float, tail: Tail, alpha: float, beta: float
) -> Tensor:
    """Row by row, from the definition, over probabilities."""
    teacher_BC = dense_log_probabilities(lesson.labels, temperature=temperature, tail=tail)
    rows = [torch.zeros((), dtype=torch.float64)]
    for student_C, teacher_C, target in zip(student_BC, teacher_BC, lesson.targets_B.tolist(), strict=True):
        if target >= 0:
            others = [each for each in range(len(student_C)) if each != target]
            teacher_2 = split(teacher_C, target, others).exp()
            target_kl = kl_div(split(student_C / temperature, target, others), teacher_2, reduction="sum")
            nothing_else = teacher_C[others].isneginf().all()
            other_p_C = torch.zeros(len(others)).double() if nothing_else else teacher_C[others].softmax(dim=0)
            other_kl = kl_div((student_C[others] / temperature).log_softmax(dim=0), other_p_C, reduction="sum")
            rows.append(alpha * target_kl + beta * other_kl)
    return temperature**2 * torch.stack(rows).sum() / max(len(rows) - 1, 1)


def split(log_weights_C: Tensor, target: int, others: list[int]) -> Tensor:
    """Log-probabilities of the target and of all others together."""
    return torch.stack([log_weights_C[target], log_weights_C[others].logsumexp(dim=0)]).log_softmax(dim=0)


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES), alpha=st.sampled_from([0.0, 1.0, 2.5]))
def test_it_is_that_of_the_dense_distributions(tail: Tail, lesson: Lesson, temperature: float, alpha: float) -> None:
    weights = {"alpha": alpha, "beta": 3.0}

    def loss(student_BC: Tensor) -> Tensor:
        return decoupled_kl_loss(
            student_BC, lesson.labels, targets_B=lesson.targets_B, temperature=temperature, tail=tail, **weights
        )

    def expected(student_BC: Tensor) -> Tensor:
        return dense_loss(student_BC, lesson, temperature=temperature, tail=tail, **weights) + 0 * student_BC.sum()

    assert_same_loss(loss, expected, lesson.student_BC, atol=2e-5 * max(temperature**2, 1))


@pytest.mark.parametrize("targets", ["kept", "not kept"])
def test_weights_of_1_and_of_what_is_not_the_target_are_the_plain_kl(targets: str) -> None:
    """Zhao et al. (2022), equation 6."""
    lesson = make_lesson(rows=1, num_classes=10, k=3)
    ids = lesson.labels.class_ids_BK[0].tolist()
    target = ids[1] if targets == "kept" else next(each for each in range(10) if each not in ids)
    log_p_C = dense_log_probabilities(lesson.labels, temperature=2.0, tail="uniform")[0]

    loss = decoupled_kl_loss(
        lesson.student_BC,
        lesson.labels,
        targets_B=torch.tensor([target]),
        temperature=2.0,
        beta=1 - float(log_p_C[target].exp()),
    )

    torch.testing.assert_close(loss, distillation_loss(lesson.student_BC, lesson.labels, temperature=2.0))


def test_rows_without_a_known_target_are_left_out_of_the_mean() -> None:
    lesson = make_lesson(rows=4)
    student_BC = lesson.student_BC.requires_grad_()
    targets_B = torch.tensor([-1, 2, -1, 5])

    loss = decoupled_kl_loss(student_BC, lesson.labels, targets_B=targets_B, temperature=2.0)

    known = dataclasses.replace(lesson, student_BC=lesson.student_BC[[1, 3]], targets_B=targets_B[[1, 3]])
    labels = dataclasses.replace(
        lesson.labels,
        class_ids_BK=lesson.labels.class_ids_BK[[1, 3]],
        logits_BK=lesson.labels.logits_BK[[1, 3]],
        log_tail_BT=lesson.labels.log_tail_BT[[1, 3]],
        max_logit_B=lesson.labels.max_logit_B[[1, 3]],
    )
    expected = decoupled_kl_loss(known.student_BC, labels, targets_B=known.targets_B, temperature=2.0)
    torch.testing.assert_close(loss, expected)
    assert gradient(loss, student_BC).abs().sum(dim=1).bool().tolist() == [False, True, False, True]


def test_without_any_target_it_is_0_and_teaches_nothing() -> None:
    lesson = make_lesson()
    student_BC = lesson.student_BC.requires_grad_()

    loss = decoupled_kl_loss(student_BC, lesson.labels, targets_B=torch.full((4,), -1), temperature=2.0)

    assert loss.item() == 0
    assert not gradient(loss, student_BC).any()


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("log_tail", [-math.inf, -65504.0, 0.0])
@pytest.mark.parametrize("k", [1, 3])
def test_a_teacher_sure_of_the_target_or_of_the_tail_still_gives_finite_gradients(
    tail: Tail, log_tail: float, k: int
) -> None:
    lesson = make_lesson(k=k)
    labels = dataclasses.replace(lesson.labels, log_tail_BT=torch.full_like(lesson.labels.log_tail_BT, log_tail))
    student_BC = lesson.student_BC.requires_grad_()

    loss = decoupled_kl_loss(student_BC, labels, targets_B=labels.class_ids_BK[:, 0], temperature=1.0, tail=tail)

    assert loss.isfinite()
    assert gradient(loss, student_BC).isfinite().all()


def test_the_target_can_not_be_found_in_a_bucket() -> None:
    lesson = make_lesson()

    with pytest.raises(InvalidOption, match=re.escape("Choose as `loss.tail` uniform or renormalise.")):
        decoupled_kl_loss(lesson.student_BC, lesson.labels, targets_B=lesson.targets_B, temperature=1.0, tail="bucket")
