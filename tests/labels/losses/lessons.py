"""Batches to compute losses on, and soft labels made dense again in float64, by the words of each tail's definition."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import log_softmax
from torch.testing import assert_close

from softlab.labels.losses import LOSS_BY_NAME, DecisionLoss, LossName, Tail, make_loss
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head, SoftLabels

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), R classes of the distributions compared.

TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 20.0)


@dataclass(frozen=True)
class Lesson:
    """A batch of a student's logits and the labels that it learns from."""

    student_BC: Tensor
    teacher_BC: Tensor
    labels: SoftLabels
    targets_B: Tensor
    """-1 where unknown."""


def loss_with(name: LossName, **values: Any) -> DecisionLoss:
    """The loss of that name, with those of the values that it has an option for."""
    own = {field.name for field in fields(LOSS_BY_NAME[name])}
    return make_loss(name, **{option: value for option, value in values.items() if option in own})


def make_lesson(
    *,
    rows: int = 4,
    num_classes: int = 10,
    k: int = 3,
    student_scale: float = 2.0,
    teacher_scale: float = 3.0,
    teacher_offset: float = 0.0,
    seed: int = 0,
    head: Head = "softmax",
) -> Lesson:
    generator = torch.Generator().manual_seed(seed)
    teacher_BC = teacher_scale * torch.randn(rows, num_classes, generator=generator) + teacher_offset
    student_BC = student_scale * torch.randn(rows, num_classes, generator=generator)
    labels = keep_top_k(teacher_BC, k=k, temperatures=TEMPERATURES, head=head)
    targets_B = torch.randint(-1, num_classes, (rows,), generator=generator)
    return Lesson(student_BC, teacher_BC, labels, targets_B)


@st.composite
def lessons(
    draw: st.DrawFn,
    *,
    head: Head = "softmax",
    min_rows: int = 1,
    min_classes: int = 2,
    scales: tuple[float, ...] = (0.01, 1.0, 10.0),
) -> Lesson:
    num_classes = draw(st.integers(min_classes, 40))
    return make_lesson(
        rows=draw(st.integers(min_rows, 6)),
        num_classes=num_classes,
        k=draw(st.integers(1, num_classes) | st.just(num_classes)),
        student_scale=draw(st.sampled_from(scales)),
        teacher_scale=draw(st.sampled_from(scales)),
        teacher_offset=draw(st.sampled_from([0.0, -5.0])),
        seed=draw(st.integers(0, 1000)),
        head=head,
    )


def dense_log_probabilities(labels: SoftLabels, *, temperature: float, tail: Tail) -> Tensor:
    """float64 [B, C], the tail shared equally, or nothing where it is dropped; -inf for nothing."""
    head_BK = log_softmax(labels.logits_BK.double() / temperature, dim=1)
    log_tail_B1 = labels.log_tail_BT[:, [labels.temperatures.index(temperature)]].double()
    if tail in ("renormalise", "renormalise_both"):
        log_tail_B1 = torch.full_like(log_tail_B1, -math.inf)
    head_BK = head_BK + torch.log1p(-log_tail_B1.exp())
    share_B1 = log_tail_B1 - math.log(max(labels.num_classes - labels.k, 1))
    return share_B1.repeat(1, labels.num_classes).scatter(1, labels.class_ids_BK, head_BK)


def dense_pair(student_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher, float64 [B, R]: over all classes, those kept, or these and the rest."""
    student_BC = log_softmax(student_BC.double() / temperature, dim=1)
    teacher_BC = dense_log_probabilities(labels, temperature=temperature, tail=tail)
    if tail == "renormalise_both":
        student_BK, teacher_BK = (log_BC.gather(1, labels.class_ids_BK) for log_BC in (student_BC, teacher_BC))
        return student_BK - student_BK.logsumexp(dim=1, keepdim=True), teacher_BK
    if tail == "bucket" and labels.k < labels.num_classes:
        return in_bucket(student_BC, labels), in_bucket(teacher_BC, labels)
    return student_BC, teacher_BC


def in_bucket(log_BC: Tensor, labels: SoftLabels) -> Tensor:
    outside_B1 = log_BC.scatter(1, labels.class_ids_BK, -math.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([log_BC.gather(1, labels.class_ids_BK), outside_B1], dim=1)


def assert_same_loss(
    loss_of: Callable[[Tensor], Tensor],
    expected_of: Callable[[Tensor], Tensor],
    student_BC: Tensor,
    *,
    rtol: float = 1e-5,
    atol: float = 5e-6,
) -> None:
    """Of values, and ten times as loosely of gradients; the loss is a float32 scalar."""
    student_BC = student_BC.detach().requires_grad_()
    expected_BC = student_BC.detach().double().requires_grad_()
    loss, expected = loss_of(student_BC), expected_of(expected_BC)
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    assert_close(loss.double(), expected.double(), rtol=rtol, atol=atol)
    assert_close(gradient(loss, student_BC).double(), gradient(expected, expected_BC), rtol=10 * rtol, atol=atol)


def gradient(loss: Tensor, student_BC: Tensor) -> Tensor:
    (gradient_BC,) = torch.autograd.grad(loss, student_BC)
    return gradient_BC
