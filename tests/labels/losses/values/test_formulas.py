"""Each loss on values against its formula, written down again in float64, and what it refuses."""

# Shape letters: B rows in a batch, D numbers of a vector.

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import VALUES_LOSSES, ValuesLoss
from softlab.labels.losses.values import (
    CosineLoss,
    MarginMseLoss,
    PairMatchingLoss,
    RelationalLoss,
    SimilarityKlLoss,
    VectorKlLoss,
    VectorMseLoss,
)

LOSSES = [kind for kind in get_args(ValuesLoss) if kind is not PairMatchingLoss]
"""That of pairs is a cross-entropy of two vectors a row, see test_pairs.py."""


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    return ((student - teacher) ** 2).mean()


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    return 1 - (student * teacher).sum(-1).div(student.norm(dim=-1) * teacher.norm(dim=-1)).mean()


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-D over all pairs of distinct rows."""
    pairs = [(i, j) for i in range(len(student)) for j in range(len(student)) if i != j]
    one, two = (torch.stack([(each[i] - each[j]).norm() for i, j in pairs]) for each in (student, teacher))
    return functional.huber_loss(one / one.mean(), two / two.mean())


def similarities(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row in range(len(student)):
        others = [other for other in range(len(student)) if other != row]
        p, q = (
            torch.stack([functional.cosine_similarity(each[row], each[other], dim=0) for other in others])
            .div(temperature)
            .softmax(0)
            for each in (teacher, student)
        )
        total += (p * (p / q).log()).sum()
    return total / len(student)


def kl(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Over the last axis."""
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    return temperature**2 * (p * (p / q).log()).sum(-1).mean()


def margins(student: Tensor, teacher: Tensor) -> Tensor:
    leads = [(s[0] - s[j]) - (t[0] - t[j]) for s, t in zip(student, teacher, strict=True) for j in range(1, len(s))]
    return torch.stack(leads).square().mean()


Formula = Callable[[Tensor, Tensor], Tensor]
CASES: list[tuple[Any, Formula]] = [
    (VectorMseLoss(), mse),
    (CosineLoss(), cosine),
    (RelationalLoss(relation="distance"), distances),
    (SimilarityKlLoss(temperature=0.2), lambda s, t: similarities(s, t, temperature=0.2)),
    (VectorKlLoss(temperature=2.0), lambda s, t: kl(s, t, temperature=2.0)),
    (MarginMseLoss(), margins),
    (CosineLoss(prefixes=(2, 5)), lambda s, t: cosine(s, t) + cosine(s[:, :2], t[:, :2]) + cosine(s[:, :5], t[:, :5])),
    (
        VectorMseLoss(prefixes=(3,), prefix_weights=(0.5,)),
        lambda s, t: mse(s, t) + 0.5 * mse(s[:, :3], t[:, :3]),
    ),
]


@pytest.mark.parametrize(("loss", "formula"), CASES, ids=lambda case: getattr(case, "name", ""))
def test_a_loss_and_its_gradient_are_those_of_the_formula(loss: Any, formula: Formula) -> None:
    student, teacher = values(6, 8).requires_grad_(), values(6, 8, seed=1)
    own = student.detach().float().requires_grad_()

    expected, found = formula(student, teacher), loss(own, teacher.float())
    (gradient,) = torch.autograd.grad(expected, student)
    (own_gradient,) = torch.autograd.grad(found, own)

    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(own_gradient.double(), gradient, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.name)
def test_a_student_that_gives_what_is_stored_has_lost_nothing(kind: type[Any]) -> None:
    teacher = values(5, 4).float()

    assert abs(kind()(teacher.clone(), teacher).item()) < 1e-6


@pytest.mark.parametrize("kind", [RelationalLoss, SimilarityKlLoss])
def test_relations_are_compared_whatever_the_widths(kind: type[Any]) -> None:
    assert kind()(values(5, 4), values(5, 9, seed=1)).item() > 0
    assert kind(prefixes=(2,))(values(5, 4), values(5, 9, seed=1)).item() > 0


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", [RelationalLoss, SimilarityKlLoss])
def test_of_too_few_rows_relations_have_a_finite_loss_and_gradient(kind: type[Any], rows: int) -> None:
    student = values(rows, 4).requires_grad_()

    loss = kind()(student, values(rows, 4, seed=1))
    loss.backward()

    assert math.isfinite(loss.item())
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_similarities_of_a_zero_vector_have_a_finite_gradient() -> None:
    student = values(4, 3).index_fill(0, torch.tensor([1]), 0.0).requires_grad_()

    SimilarityKlLoss()(student, values(4, 3, seed=1)).backward()  # type: ignore[no-untyped-call]

    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_channel_wise_distillation_is_over_the_positions_of_each_channel() -> None:
    student, teacher = values(2, 3, 4, 5), values(2, 3, 4, 5, seed=1)

    found = VectorKlLoss(temperature=4.0, over="positions")(student, teacher)

    expected = kl(student.flatten(2), teacher.flatten(2), temperature=4.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_kl_of_a_map_is_over_the_channels_at_each_position() -> None:
    student, teacher = values(2, 3, 4, 5), values(2, 3, 4, 5, seed=1)

    found = VectorKlLoss()(student, teacher)

    expected = kl(student.movedim(1, -1), teacher.movedim(1, -1), temperature=1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_kl_of_tokens_is_over_the_numbers_of_each_position() -> None:
    found = VectorKlLoss()(values(2, 3, 4), values(2, 3, 4, seed=1))

    assert found.item() == pytest.approx(kl(values(2, 3, 4), values(2, 3, 4, seed=1), temperature=1.0).item(), rel=1e-5)


def test_a_number_added_to_all_scores_of_a_row_changes_no_margin() -> None:
    student, teacher = values(5, 4), values(5, 4, seed=1)

    assert MarginMseLoss()(student + 7, teacher - 3).item() == pytest.approx(MarginMseLoss()(student, teacher).item())


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "message"),
    [
        (VectorMseLoss(projector="none"), (8,), (4,), "compares equal widths. Say `loss.projector = auto`"),
        (CosineLoss(prefixes=(2,)), (8,), (4,), "with `loss.prefixes` nothing is projected"),
        (CosineLoss(prefixes=(2, 8)), (8,), (8,), "must be below 8, the whole vector"),
        (SimilarityKlLoss(prefixes=(6,)), (8,), (4,), "must be below 4"),
        (CosineLoss(prefixes=(2,)), (8, 2, 2), (8, 2, 2), "`loss.prefixes` are of vectors"),
        (VectorMseLoss(), (8, 2), (8,), "compares equal ranks"),
        (VectorKlLoss(), (4,), (8,), r"compares number by number. Build a student that gives \[8\]"),
        (VectorKlLoss(), (1,), (1,), "the softmax over one number is 1 whatever"),
        (VectorKlLoss(over="positions"), (4,), (4,), "nothing to learn over its positions"),
        (MarginMseLoss(), (1,), (1,), "two candidates or more"),
        (MarginMseLoss(), (3, 3), (3, 3), "two candidates or more"),
    ],
)
def test_shapes_that_a_loss_can_not_compare_are_refused(
    loss: Any, student: tuple[int, ...], teacher: tuple[int, ...], message: str
) -> None:
    with pytest.raises(StoreMismatch, match=message):
        loss.check_shapes(student, teacher, where="student small")


@pytest.mark.parametrize("projector", ["auto", "linear"])
def test_other_widths_are_left_to_a_projector(projector: Any) -> None:
    CosineLoss(projector=projector).check_shapes((8,), (4,), where="student small")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CosineLoss, {"prefixes": (64, 64)}, r"loss.prefixes = \[64, 64\]: expected rising numbers of 1 or more"),
        (CosineLoss, {"prefixes": (0, 64)}, "rising numbers of 1 or more"),
        (CosineLoss, {"prefixes": (64,), "prefix_weights": (1.0, 2.0)}, "loss.prefix_weights .* expected one a prefix"),
        (CosineLoss, {"prefixes": (64,), "prefix_weights": (0.0,)}, "expected positive numbers"),
        (
            CosineLoss,
            {"prefixes": (64,), "projector": "linear"},
            "no longer those of the student",
        ),
        (SimilarityKlLoss, {"temperature": 0.0}, "loss.temperature = 0.0: expected a positive number"),
        (VectorKlLoss, {"temperature": math.inf}, "expected a positive number"),
        (VectorKlLoss, {"over": "rows"}, "expected width or positions"),
        (RelationalLoss, {"relation": "all"}, "expected one of both, distance, angle"),
    ],
)
def test_options_that_make_no_sense_are_refused(kind: type[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        kind(**options)


def test_no_name_of_a_loss_on_values_is_that_of_one_on_classes() -> None:
    from softlab.labels.losses import LOSS_BY_NAME

    assert len(VALUES_LOSSES) == len(set(VALUES_LOSSES) - LOSS_BY_NAME.keys()) == 7
