import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import softlab
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.sampled_angles import sampled_angles

# Shape letters: R rows, C classes, D width.


def make_teacher(rows: int = 400, *, num_classes: int = 300, seed: int = 0) -> LazyLogits:
    """Sure of some rows and not of others, and as a language of some classes more often than of others."""
    generator = torch.Generator().manual_seed(seed)
    hidden, weight_CD = torch.randn(rows, 12, generator=generator), torch.randn(num_classes, 12, generator=generator)
    bias_C = -2 * torch.arange(1, num_classes + 1).log()
    return LazyLogits(hidden=hidden * torch.linspace(0.1, 2, rows)[:, None], weight_CD=weight_CD, bias_C=bias_C)


def gradients(logits: LazyLogits, labels: softlab.SoftLabels) -> list[Tensor]:
    """Of softlab's own loss."""
    student = replace(
        logits, hidden=logits.hidden.clone().requires_grad_(), weight_CD=logits.weight_CD.clone().requires_grad_()
    )
    loss = softlab.distillation_loss(student.whole(), labels, temperature=1.0)
    return list(torch.autograd.grad(loss, (student.weight_CD, student.hidden)))


def degrees(one: Tensor, other: Tensor) -> float:
    cosine = torch.nn.functional.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0)
    return math.degrees(math.acos(min(1.0, cosine.item())))


def test_they_are_those_of_the_loss_itself() -> None:
    teacher, student = make_teacher(), make_teacher(seed=1)
    full = softlab.keep_top_k(teacher.whole(), k=300, temperatures=(1.0,))
    cut = softlab.keep_top_k(teacher.whole(), k=8, temperatures=(1.0,))

    found = sampled_angles(teacher, ks=(8,), student=student)["top-8"]

    pairs = zip(gradients(student, cut), gradients(student, full), strict=True)
    assert [found.weight, found.hidden] == pytest.approx([degrees(*pair) for pair in pairs], abs=0.02)


@pytest.mark.parametrize("has_student", [False, True], ids=["uniform student", "student"])
def test_a_finer_sample_turns_the_gradient_less_and_all_classes_not_at_all(has_student: bool) -> None:
    student = make_teacher(seed=1) if has_student else None

    found = sampled_angles(make_teacher(), resolutions=(4, 16, 64, 254), ks=(300,), student=student)

    assert [*found] == ["sampled 4", "sampled 16", "sampled 64", "sampled 254", "top-300"]
    by_weight = [each.weight for each in found.values()]
    assert by_weight == sorted(by_weight, reverse=True)
    assert by_weight[-1] == pytest.approx(0, abs=0.05)
    assert found["top-300"].hidden == pytest.approx(0, abs=0.05)


def test_over_many_rows_a_sample_is_right_and_largest_classes_are_not() -> None:
    """Of a student near its teacher, whose gradient is small."""
    teacher = make_teacher(8000)
    noise_CD = 0.1 * torch.randn(300, 12, generator=torch.Generator().manual_seed(2))
    student = replace(teacher, weight_CD=teacher.weight_CD + noise_CD)

    many = sampled_angles(teacher, resolutions=(8,), ks=(8,), student=student)
    few = sampled_angles(teacher[::20], resolutions=(8,), ks=(8,), student=student[::20])

    assert few["top-8"].hidden < few["sampled 8"].hidden
    assert many["sampled 8"].weight < few["sampled 8"].weight / 2
    assert many["top-8"].weight > few["top-8"].weight / 1.2
