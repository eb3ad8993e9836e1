"""The loss of pairs against its formula, written down again in float64."""

# Shape letters: B pairs in a batch, D numbers of a vector.

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses.values import PairMatchingLoss, pair_matching_loss


def halves(width: int, *, seed: int, rows: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return first, second


def by_hand(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], scales: tuple[float, float]) -> Tensor:
    """From each half to the other, row by row."""
    total = torch.zeros((), dtype=torch.float64)
    for one, other in [(0, 1), (1, 0)]:
        for row in range(len(student[0])):
            q, p = (
                (scale * functional.cosine_similarity(each[one][row], each[other], dim=1)).softmax(0)
                for each, scale in zip((student, teacher), scales, strict=True)
            )
            total -= (p * q.log()).sum()
    return total / (2 * len(student[0]))


def test_the_loss_and_its_gradient_are_those_of_the_formula() -> None:
    student, teacher = halves(4, seed=0), halves(7, seed=1)
    own = tuple(half.float().requires_grad_() for half in student)
    for half in student:
        half.requires_grad_()

    expected = by_hand(student, teacher, (3.0, 10.0))
    found = pair_matching_loss((own[0], own[1]), teacher, student_scale=3.0, teacher_scale=torch.full((5, 1), 10.0))
    gradients = torch.autograd.grad(expected, student)
    own_gradients = torch.autograd.grad(found, own)

    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-7)
    for gradient, own_gradient in zip(gradients, own_gradients, strict=True):
        torch.testing.assert_close(own_gradient.double(), gradient, rtol=2e-4, atol=1e-6)


def test_the_scale_of_a_student_may_be_learnt() -> None:
    scale = torch.tensor(2.0, requires_grad=True)

    loss = pair_matching_loss(halves(4, seed=0), halves(4, seed=1), student_scale=scale, teacher_scale=10.0)
    loss.backward()  # type: ignore[no-untyped-call]

    assert scale.grad is not None
    assert scale.grad.item() != 0


def test_no_student_is_better_than_one_that_matches_as_its_teacher() -> None:
    teacher = halves(4, seed=1)

    best = pair_matching_loss(teacher, teacher, student_scale=10.0, teacher_scale=10.0)

    for seed in range(5):
        other = pair_matching_loss(halves(4, seed=seed + 2), teacher, student_scale=10.0, teacher_scale=10.0)
        assert other > best


def test_halves_of_other_shapes_are_refused() -> None:
    with pytest.raises(StoreMismatch, match=r"the student: has vectors \[5, 4\] and \[5, 7\]"):
        pair_matching_loss(
            (halves(4, seed=0)[0], halves(7, seed=0)[0]), halves(4, seed=1), student_scale=1, teacher_scale=1
        )
    with pytest.raises(StoreMismatch, match="the student gives 5 pairs, and 6 are stored"):
        pair_matching_loss(halves(4, seed=0), halves(4, seed=1, rows=6), student_scale=1, teacher_scale=1)


def test_the_loss_and_its_gradient_are_those_of_open_clip() -> None:
    theirs = pytest.importorskip("open_clip.loss", reason="open_clip_torch", exc_type=ImportError)
    student, teacher = halves(16, seed=0, rows=33), halves(24, seed=1, rows=33)
    for half in student:
        half.requires_grad_()
    own, seen = ([functional.normalize(half, dim=1) for half in each] for each in (student, teacher))

    _, expected = theirs.DistillClipLoss()(*own, torch.tensor(20.0), *seen, torch.tensor(100.0))
    found = pair_matching_loss(student, teacher, student_scale=20.0, teacher_scale=100.0)

    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    for gradient, expected_gradient in zip(
        torch.autograd.grad(found, student), torch.autograd.grad(expected, student), strict=True
    ):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_as_options_it_takes_both_vectors_as_one_output() -> None:
    student, teacher = halves(4, seed=0), halves(7, seed=1)

    found = PairMatchingLoss(teacher_scale=10.0, student_scale=3.0)(torch.stack(student, 1), torch.stack(teacher, 1))

    expected = pair_matching_loss(student, teacher, student_scale=3.0, teacher_scale=10.0)
    torch.testing.assert_close(found, expected)


def test_the_scale_of_a_student_is_by_default_its_teachers() -> None:
    pairs, theirs = torch.stack(halves(4, seed=0), 1), torch.stack(halves(4, seed=1), 1)

    one, other = PairMatchingLoss(teacher_scale=10.0), PairMatchingLoss(teacher_scale=10.0, student_scale=10.0)

    assert one(pairs, theirs) == other(pairs, theirs)


@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 7), (5, 2, 7, 1)])
def test_what_is_not_two_vectors_a_sample_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(StoreMismatch, match=r"pair_matching compares two vectors a sample, \[2, D\]. Stack"):
        PairMatchingLoss()(torch.zeros(5, 2, 7), torch.zeros(shape))


@pytest.mark.parametrize("options", [{"teacher_scale": 0.0}, {"student_scale": -1.0}])
def test_scales_are_positive(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=r"expected a positive number"):
        PairMatchingLoss(**options)
