"""KL over so few classes that all of them are compared."""

from typing import get_args

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from softlab.labels.losses import Tail, distillation_loss
from softlab.labels.losses.few_classes_kl import DenseTarget, dense_kl, dense_target_of, has_few_classes
from softlab.labels.losses.log_softmax import FEW_CLASSES
from softlab.labels.losses.sparse_kl import sparse_kl, target_of
from softlab.labels.losses.teacher import distribution_at
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import gradient, make_lesson

# Shape letters: B rows in a batch, C classes.

TAILS = [tail for tail in get_args(Tail) if tail in ("uniform", "renormalise")]


def target(labels: SoftLabels, *, temperature: float, tail: Tail) -> DenseTarget:
    teacher = distribution_at(labels, temperature=temperature, tail=tail)
    return dense_target_of(teacher, num_classes=labels.num_classes)


@given(
    num_classes=st.integers(1, FEW_CLASSES),
    share=st.floats(0, 1),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    tail=st.sampled_from(TAILS),
    seed=st.integers(0, 100),
)
def test_value_and_gradient_are_those_of_torchs_own_kl(
    num_classes: int, share: float, temperature: float, tail: Tail, seed: int
) -> None:
    lesson = make_lesson(num_classes=num_classes, k=max(1, round(share * num_classes)), seed=seed)
    student_BC = lesson.student_BC.requires_grad_()
    assert has_few_classes(num_classes)

    loss = distillation_loss(student_BC, lesson.labels, temperature=temperature, tail=tail)

    log_p_BC = (lesson.teacher_BC.double() / temperature).log_softmax(dim=1)
    p_BC, ids_BK = log_p_BC.exp(), lesson.labels.class_ids_BK
    kept_BC = torch.zeros_like(p_BC).scatter(1, ids_BK, p_BC.gather(1, ids_BK))
    left_B1 = p_BC.scatter(1, ids_BK, 0.0).sum(dim=1, keepdim=True)
    if tail == "uniform":
        shared_B1 = left_B1 / max(num_classes - ids_BK.shape[1], 1)
        p_BC = shared_B1.expand_as(p_BC).scatter(1, ids_BK, p_BC.gather(1, ids_BK))
    else:
        p_BC = kept_BC / kept_BC.sum(dim=1, keepdim=True)
    student64_BC = lesson.student_BC.detach().double().requires_grad_()
    log_q_BC = (student64_BC / temperature).log_softmax(dim=1)
    expected = temperature**2 * functional.kl_div(log_q_BC, p_BC, reduction="batchmean")
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        gradient(loss, student_BC).double(), gradient(expected, student64_BC), rtol=1e-5, atol=1e-6
    )


def masked_labels() -> SoftLabels:
    """Rows that have 7, 3 and 1 of 7 classes."""
    logits_BC = torch.randn(3, 7, generator=torch.Generator().manual_seed(2))
    logits_BC[1, 3:], logits_BC[2, :6] = -torch.inf, -torch.inf
    return keep_top_k(logits_BC, k=2, temperatures=(1.0, 2.0), masked=True)


def test_rows_with_fewer_classes_are_as_over_many_classes() -> None:
    labels, temperature = masked_labels(), 2.0
    student_BC = torch.randn(3, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    teacher = distribution_at(labels, temperature=temperature, tail="uniform")

    loss = dense_kl(student_BC, target(labels, temperature=temperature, tail="uniform"), temperature=temperature)

    expected = sparse_kl(student_BC, target_of(teacher), temperature=temperature)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, student_BC), gradient(expected, student_BC))


def test_a_student_that_is_sure_of_classes_that_a_row_lacks_has_a_finite_loss() -> None:
    student_BC = torch.tensor([[0.0, -torch.inf, 1.0, 2.0, 0.0, 0.0, 0.0]]).expand(3, 7).clone()
    student_BC[1, 3:], student_BC[2, :6], student_BC[0, 1] = -torch.inf, -torch.inf, 0.0
    student_BC[1, 1] = 0.0
    student_BC.requires_grad_()

    loss = distillation_loss(student_BC, masked_labels(), temperature=1.0)

    assert loss.isfinite()
    assert gradient(loss, student_BC).isfinite().all()


def test_it_can_be_differentiated_again() -> None:
    lesson = make_lesson(num_classes=5, k=2)
    dense = target(lesson.labels, temperature=2.0, tail="uniform")
    dense = DenseTarget(
        probability_BC=dense.probability_BC.double(), log_probability_BC=dense.log_probability_BC.double()
    )

    def loss(student_BC: Tensor) -> Tensor:
        return dense_kl(student_BC, dense, temperature=2.0)

    student_BC = lesson.student_BC.double().requires_grad_()
    assert torch.autograd.gradcheck(loss, (student_BC,))
    assert torch.autograd.gradgradcheck(loss, (student_BC,))


def test_a_target_is_split_by_rows() -> None:
    whole = target(make_lesson(rows=7).labels, temperature=1.0, tail="uniform")

    parts = whole.split([3, 0, 4])

    assert [len(part.probability_BC) for part in parts] == [3, 0, 4]
    assert torch.cat([part.probability_BC for part in parts]).equal(whole.probability_BC)
    assert torch.cat([part.log_probability_BC for part in parts]).equal(whole.log_probability_BC)
