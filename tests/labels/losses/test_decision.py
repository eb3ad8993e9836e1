import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.coding import Coding, LabelCoding
from softlab.labels.losses import (
    DecisionLoss,
    LossName,
    Tail,
    argmax_loss,
    binary_cross_entropy_loss,
    check_loss_head,
    decision_loss,
    decoupled_kl_loss,
    dist_loss,
    distillation_loss,
    hinge_loss,
    jensen_shannon_loss,
    logit_mse_loss,
    make_loss,
    reverse_kl_loss,
    standardised_kl_loss,
    symmetric_kl_loss,
    temperature_of,
)
from softlab.labels.soft_labels import Head, SoftLabels
from tests.labels.losses.lessons import Lesson, gradient, loss_with, make_lesson

# Shape letters: B rows in a batch, C classes.

NAMES: tuple[LossName, ...] = get_args(LossName)
TAILS_OF: dict[LossName, tuple[Tail, ...]] = {
    "kl": ("uniform", "bucket", "renormalise", "renormalise_both"),
    "reverse_kl": ("uniform", "bucket"),
    "symmetric_kl": ("uniform", "bucket"),
    "jensen_shannon": ("uniform", "bucket", "renormalise"),
    "mse": ("uniform", "renormalise"),
    "bce": ("uniform", "renormalise"),
    "dkd": ("uniform", "renormalise"),
    "dist": ("uniform", "renormalise"),
    "standardised_kl": ("uniform", "bucket"),
}
WITHOUT_TEMPERATURE: tuple[LossName, ...] = ("mse", "hinge", "argmax")
every_loss_with_a_tail = pytest.mark.parametrize(
    "options",
    [loss_with(name, tail=tail, temperature=2.0) for name, tails in TAILS_OF.items() for tail in tails],
    ids=lambda options: f"{options.name}-{options.tail}",
)
every_loss = pytest.mark.parametrize(
    "options",
    [loss_with(name, tail=tail, temperature=2.0) for name in NAMES for tail in TAILS_OF.get(name, (None,))],
    ids=lambda options: f"{options.name}-{getattr(options, 'tail', None)}",
)


def head_for(options: DecisionLoss) -> Head:
    return "sigmoid" if options.name == "bce" else "softmax"


def lesson_for(options: DecisionLoss, **shape: Any) -> Lesson:
    return make_lesson(head=head_for(options), **shape)


def loss_of(student_BC: Tensor, lesson: Lesson, options: DecisionLoss, labels: SoftLabels | None = None) -> Tensor:
    return decision_loss(student_BC, labels or lesson.labels, targets_B=lesson.targets_B, options=options)


def raised(compute: Callable[[], object]) -> str | None:
    """What a StoreMismatch says; None if there is none."""
    try:
        compute()
    except StoreMismatch as error:
        return str(error)
    return None


def assert_finite(loss: Tensor, student_BC: Tensor) -> None:
    assert loss.isfinite()
    assert gradient(loss, student_BC).isfinite().all()


def test_each_name_is_the_loss_of_its_own_function() -> None:
    lesson, multi_label = make_lesson(), make_lesson(head="sigmoid")
    z, labels = lesson.student_BC, lesson.labels
    at: dict[str, Any] = {"temperature": 2.0}
    settings: dict[LossName, dict[str, float]] = {
        "symmetric_kl": {"balance": 0.2},
        "jensen_shannon": {"beta": 0.3},
        "hinge": {"margin": 0.4},
        "dkd": {"alpha": 5.0, "beta": 6.0},
        "dist": {"inter": 7.0, "intra": 8.0},
    }
    expected = {
        "kl": distillation_loss(z, labels, **at),
        "reverse_kl": reverse_kl_loss(z, labels, **at),
        "symmetric_kl": symmetric_kl_loss(z, labels, balance=0.2, **at),
        "jensen_shannon": jensen_shannon_loss(z, labels, beta=0.3, **at),
        "mse": logit_mse_loss(z, labels),
        "hinge": hinge_loss(z, labels, margin=0.4),
        "bce": binary_cross_entropy_loss(z, multi_label.labels, **at),
        "dkd": decoupled_kl_loss(z, labels, targets_B=lesson.targets_B, alpha=5.0, beta=6.0, **at),
        "dist": dist_loss(z, labels, inter=7.0, intra=8.0, **at),
        "standardised_kl": standardised_kl_loss(z, labels, **at),
        "argmax": argmax_loss(z, labels),
    }

    found = {
        name: loss_of(z, multi_label if name == "bce" else lesson, loss_with(name, **at, **settings.get(name, {})))
        for name in NAMES
    }

    assert {name: loss.item() for name, loss in found.items()} == {name: loss.item() for name, loss in expected.items()}
    assert len({round(loss.item(), 5) for loss in found.values()}) == len(NAMES)


@every_loss_with_a_tail
def test_the_tail_reaches_the_loss(options: DecisionLoss) -> None:
    lesson = lesson_for(options)

    found = {
        tail: loss_of(lesson.student_BC, lesson, loss_with(options.name, tail=tail, temperature=2.0)).item()
        for tail in TAILS_OF[options.name]
    }

    assert len(set(found.values())) == len(found)


@every_loss
def test_a_student_in_half_precision_has_its_loss_in_float32(options: DecisionLoss) -> None:
    lesson = lesson_for(options)
    student_BC = lesson.student_BC.bfloat16().requires_grad_()

    loss = loss_of(student_BC, lesson, options)

    assert (loss.dtype, loss.shape) == (torch.float32, ())
    assert torch.equal(loss, loss_of(student_BC.float(), lesson, options))
    assert gradient(loss, student_BC).dtype == torch.bfloat16


@every_loss
@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e6])
def test_extreme_students_get_finite_gradients(options: DecisionLoss, scale: float) -> None:
    lesson = lesson_for(options, student_scale=scale)
    student_BC = lesson.student_BC.requires_grad_()

    assert_finite(loss_of(student_BC, lesson, options), student_BC)


@every_loss
def test_a_student_that_says_nothing_yet_gets_finite_gradients(options: DecisionLoss) -> None:
    lesson = lesson_for(options)
    student_BC = torch.zeros_like(lesson.student_BC).requires_grad_()

    assert_finite(loss_of(student_BC, lesson, options), student_BC)


@every_loss
@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("scale", [0.0, 1e3, 1e6])
def test_extreme_teachers_give_finite_gradients(options: DecisionLoss, k: int, scale: float) -> None:
    lesson = lesson_for(options, teacher_scale=scale, k=k)
    student_BC = lesson.student_BC.requires_grad_()

    assert_finite(loss_of(student_BC, lesson, options), student_BC)


@every_loss
@pytest.mark.parametrize("log_tail", [-math.inf, -65504.0, -1e-7, 0.0])
def test_a_tail_of_nothing_or_of_everything_gives_finite_gradients(options: DecisionLoss, log_tail: float) -> None:
    lesson = lesson_for(options)
    labels = dataclasses.replace(lesson.labels, log_tail_BT=torch.full_like(lesson.labels.log_tail_BT, log_tail))
    student_BC = lesson.student_BC.requires_grad_()

    assert_finite(loss_of(student_BC, lesson, options, labels), student_BC)


@every_loss
def test_one_row_is_enough(options: DecisionLoss) -> None:
    lesson = dataclasses.replace(lesson_for(options, rows=1), targets_B=torch.tensor([2]))
    student_BC = lesson.student_BC.requires_grad_()

    assert_finite(loss_of(student_BC, lesson, options), student_BC)


@every_loss
@pytest.mark.parametrize(("coding", "tolerance"), [("float16", 0.005), ("uint8", 0.02)])
@pytest.mark.parametrize("k", [3, 10])
def test_labels_from_a_store_give_nearly_the_same_loss(
    options: DecisionLoss, coding: Coding, tolerance: float, k: int
) -> None:
    lesson = lesson_for(options, rows=64, k=k)
    label_coding = LabelCoding(
        coding=coding, num_classes=10, temperatures=lesson.labels.temperatures, head=lesson.labels.head
    )
    stored = label_coding.decode(label_coding.encode(lesson.labels))

    loss = loss_of(lesson.student_BC, lesson, options, stored)

    torch.testing.assert_close(loss, loss_of(lesson.student_BC, lesson, options), rtol=tolerance, atol=0)


@every_loss
@pytest.mark.parametrize("k", [3, 10])
def test_everything_is_made_on_the_labels_own_device(options: DecisionLoss, k: int) -> None:
    """On the meta device a tensor from elsewhere is an error, as it is on a GPU."""
    lesson = lesson_for(options, k=k)
    student_BC = lesson.student_BC.to("meta").requires_grad_()

    loss = decision_loss(student_BC, lesson.labels.to("meta"), targets_B=lesson.targets_B.to("meta"), options=options)

    assert loss.device.type == "meta"
    assert gradient(loss, student_BC).shape == student_BC.shape


@pytest.mark.gpu
@every_loss
@pytest.mark.parametrize("k", [16, 1000])
def test_a_gpu_computes_the_same_loss(options: DecisionLoss, k: int) -> None:
    lesson = lesson_for(options, rows=64, num_classes=1000, k=k)
    student_BC = lesson.student_BC.requires_grad_()

    loss = decision_loss(
        student_BC.cuda(), lesson.labels.to("cuda"), targets_B=lesson.targets_B.cuda(), options=options
    )

    expected = loss_of(student_BC, lesson, options)
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient(loss, student_BC), gradient(expected, student_BC), rtol=1e-3, atol=1e-6)


@every_loss
def test_labels_and_students_are_left_as_they_were(options: DecisionLoss) -> None:
    lesson, same = lesson_for(options), lesson_for(options)
    student_BC = lesson.student_BC.requires_grad_()

    loss_of(student_BC, lesson, options).backward()  # type: ignore[no-untyped-call]

    assert torch.equal(student_BC, same.student_BC)
    assert torch.equal(lesson.labels.logits_BK, same.labels.logits_BK)
    assert torch.equal(lesson.labels.log_tail_BT, same.labels.log_tail_BT)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("bce", "mse")])
def test_a_softmax_loss_refuses_labels_of_a_sigmoid_head(name: LossName) -> None:
    lesson = make_lesson(head="sigmoid")

    with pytest.raises(StoreMismatch, match=re.escape("a sigmoid head. Choose as `loss.name` bce, or mse on the")):
        loss_of(lesson.student_BC, lesson, make_loss(name))


@pytest.mark.parametrize("head", get_args(Head))
@pytest.mark.parametrize("name", NAMES)
def test_a_head_is_refused_without_labels_as_it_is_with_them(name: LossName, head: Head) -> None:
    lesson, options = make_lesson(head=head), make_loss(name)

    found = raised(lambda: check_loss_head(options, head))

    assert found == raised(lambda: loss_of(lesson.student_BC, lesson, options))


@pytest.mark.parametrize("name", NAMES)
def test_a_student_with_other_classes_is_refused(name: LossName) -> None:
    lesson = lesson_for(make_loss(name))

    with pytest.raises(StoreMismatch, match=re.escape("Build the student with num_classes = 10.")):
        loss_of(torch.zeros(4, 9), lesson, make_loss(name))


def test_a_loss_that_needs_targets_says_so_where_there_are_none() -> None:
    lesson = make_lesson()

    with pytest.raises(StoreMismatch, match=re.escape("dkd tells a row's target from its other classes")) as caught:
        decision_loss(lesson.student_BC, lesson.labels, options=make_loss("dkd"))

    assert "is named), or choose another `loss.name`." in str(caught.value)
    assert [name for name in NAMES if make_loss(name).needs_targets] == ["dkd"]


@pytest.mark.parametrize("name", TAILS_OF)
@given(tail=st.sampled_from(get_args(Tail)))
def test_a_tail_that_makes_no_sense_for_a_loss_is_refused_with_those_that_do(name: LossName, tail: Tail) -> None:
    if tail in TAILS_OF[name]:
        assert getattr(make_loss(name, tail=tail), "tail", None) == tail
    else:
        with pytest.raises(InvalidOption, match=re.escape(f"Choose as `loss.tail` {' or '.join(TAILS_OF[name])}.")):
            make_loss(name, tail=tail)


@pytest.mark.parametrize(
    ("name", "option", "own"),
    [
        ("argmax", "tail", "none"),
        ("hinge", "tail", "margin"),
        ("mse", "temperature", "tail"),
        ("kl", "margin", "temperature, temperature_end, tail"),
        ("dkd", "inter", "temperature, temperature_end, tail, alpha, beta"),
        ("dist", "alpha", "temperature, temperature_end, tail, inter, intra"),
    ],
)
def test_an_option_of_another_loss_is_refused_with_those_that_there_are(name: str, option: str, own: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        make_loss(name, **{option: 1.0})

    assert str(caught.value) == f"loss {name}: has no option {option}. It has {own}."


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidOption, match=re.escape("loss reverse-kl: no such loss. Did you mean reverse_kl")):
        make_loss("reverse-kl")


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        *((name, "temperature", [0.0, -1.0, math.inf, math.nan]) for name in NAMES if name not in WITHOUT_TEMPERATURE),
        *((name, "temperature_end", [0.0, math.inf, math.nan]) for name in NAMES if name not in WITHOUT_TEMPERATURE),
        ("symmetric_kl", "balance", [-0.1, 1.1, math.nan]),
        ("jensen_shannon", "beta", [0.0, 1.0, math.nan]),
        ("hinge", "margin", [0.0, -1.0, math.inf, math.nan]),
        ("dkd", "alpha", [-1.0, math.inf, math.nan]),
        ("dkd", "beta", [-1.0, math.inf, math.nan]),
        ("dist", "inter", [-1.0, math.inf, math.nan]),
        ("dist", "intra", [-1.0, math.inf, math.nan]),
    ],
)
def test_a_setting_out_of_range_is_refused(name: LossName, option: str, values: list[float]) -> None:
    for value in values:
        with pytest.raises(InvalidOption) as caught:
            make_loss(name, **{option: value})

        assert str(caught.value).startswith(f"loss.{option} = {value}: expected ")
        assert str(caught.value).endswith(f". Change `loss.{option}`.")


def test_only_a_loss_with_a_temperature_has_one() -> None:
    found = {name: temperature_of(loss_with(name, temperature=3.0)) for name in NAMES}

    assert found == {name: None if name in WITHOUT_TEMPERATURE else 3.0 for name in NAMES}
