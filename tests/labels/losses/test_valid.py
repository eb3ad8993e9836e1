"""Rows that have fewer classes than others: parsers' heads over the words of a sentence, or choices of a question."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), R columns that are compared.

import math
from dataclasses import dataclass, replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import kl_div
from torch.testing import assert_close

from softlab.errors import StoreMismatch
from softlab.labels.coding import Coding, LabelCoding
from softlab.labels.ensembles import combine
from softlab.labels.gap_step import STEPS, choose_gap_step
from softlab.labels.losses import (
    LossName,
    Tail,
    decision_loss,
    distillation_loss,
    kl_rows,
    logit_mse_loss,
    make_loss,
)
from softlab.labels.losses.checks import TAKE_VALID
from softlab.labels.losses.sparse_kl import Target, target_of
from softlab.labels.losses.teacher import distribution_at
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import TEMPERATURES, dense_log_probabilities, gradient

CODINGS: tuple[Coding, ...] = get_args(Coding)
TAILS: tuple[Tail, ...] = ("uniform", "bucket", "renormalise", "renormalise_both")
MASKED = -1e4
"""What a student's model writes where a row has no class: low, and yet finite in float16."""


@dataclass(frozen=True)
class Lesson:
    """A batch whose rows have different numbers of classes."""

    teacher_BC: Tensor
    """-inf where a row has no class."""

    student_BC: Tensor
    labels: SoftLabels
    valid_B: Tensor

    @property
    def is_valid_BC(self) -> Tensor:
        return torch.arange(self.teacher_BC.shape[1]) < self.valid_B[:, None]


def make_lesson(
    *,
    valid: list[int] | None = None,
    num_classes: int = 12,
    k: int = 4,
    is_masked: bool = True,
    scale: float = 3.0,
    seed: int = 0,
) -> Lesson:
    """By default of rows with fewer than K classes, with K, and with more, up to all."""
    valid_B = torch.tensor([1, 3, 4, 5, 9, 12] if valid is None else valid)
    generator = torch.Generator().manual_seed(seed)
    is_valid_BC = torch.arange(num_classes) < valid_B[:, None]
    teacher_BC = scale * torch.randn(len(valid_B), num_classes, generator=generator)
    student_BC = 2 * torch.randn(len(valid_B), num_classes, generator=generator)
    teacher_BC = teacher_BC.masked_fill(~is_valid_BC, -math.inf)
    return Lesson(
        teacher_BC=teacher_BC,
        student_BC=student_BC.masked_fill(~is_valid_BC, MASKED) if is_masked else student_BC,
        labels=keep_top_k(teacher_BC, k=k, temperatures=TEMPERATURES, has_valid=True),
        valid_B=valid_B,
    )


@st.composite
def lessons(draw: st.DrawFn) -> Lesson:
    num_classes = draw(st.integers(2, 40))
    return make_lesson(
        valid=draw(st.lists(st.integers(1, num_classes), min_size=1, max_size=6)),
        num_classes=num_classes,
        k=draw(st.integers(1, num_classes)),
        is_masked=draw(st.booleans()),
        scale=draw(st.sampled_from([0.01, 1.0, 10.0])),
        seed=draw(st.integers(0, 1000)),
    )


def each_row_alone(lesson: Lesson) -> list[tuple[Tensor, SoftLabels]]:
    """The student's logits and the labels of each row, over the classes that it has and no others."""
    rows = zip(lesson.student_BC, lesson.teacher_BC, lesson.valid_B.tolist(), strict=True)
    return [
        (
            student_C[None, :valid],
            keep_top_k(teacher_C[None, :valid], k=min(lesson.labels.k, valid), temperatures=lesson.labels.temperatures),
        )
        for student_C, teacher_C, valid in rows
    ]


def dense_pair(lesson: Lesson, *, temperature: float, tail: Tail) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher, float64 [B, R], -inf for nothing. The teacher's are made row by row, by
    the words of the tail's definition, over the classes of that row; it gives nothing to all others."""
    student_BC = (lesson.student_BC.double() / temperature).log_softmax(dim=1)
    teacher_BC = torch.full_like(student_BC, -math.inf)
    for row, (_, labels) in enumerate(each_row_alone(lesson)):
        teacher_BC[row, : labels.num_classes] = dense_log_probabilities(labels, temperature=temperature, tail=tail)[0]
    if tail == "renormalise_both":
        student_BC = student_BC.where(~teacher_BC.isneginf(), -math.inf).log_softmax(dim=1)
    if tail != "bucket" or lesson.labels.k == lesson.labels.num_classes:
        return student_BC, teacher_BC
    is_other_BC = lesson.is_valid_BC.scatter(1, lesson.labels.class_ids_BK, False)
    pair = []
    for log_BC in (student_BC, teacher_BC):
        kept_BK = log_BC.gather(1, lesson.labels.class_ids_BK)
        others_B1 = log_BC.exp().where(is_other_BC, 0.0).sum(dim=1, keepdim=True).log()
        pair.append(torch.cat([kept_BK, others_B1], dim=1))
    return pair[0], pair[1]


def dense_kl(student_BR: Tensor, teacher_BR: Tensor) -> Tensor:
    """float64 [B]; where the teacher gives nothing, nothing is added."""
    terms_BR = kl_div(student_BR, teacher_BR.exp(), reduction="none")
    return terms_BR.where(~teacher_BR.isneginf(), 0.0).sum(dim=1)


def shuffled(lesson: Lesson, *, seed: int) -> tuple[Tensor, SoftLabels]:
    """The student's logits and the labels, with the classes of each row in an order of its own: those that it doesn't
    have are anywhere. No loss hangs on the order of classes."""
    generator = torch.Generator().manual_seed(seed)
    order_BC = torch.rand(lesson.teacher_BC.shape, generator=generator).argsort(dim=1)
    teacher_BC, student_BC = lesson.teacher_BC.gather(1, order_BC), lesson.student_BC.gather(1, order_BC)
    temperatures = lesson.labels.temperatures
    labels = keep_top_k(teacher_BC, k=lesson.labels.k, temperatures=temperatures, has_valid=True, masked=True)
    return student_BC, labels


# Selection.


@given(lesson=lessons())
def test_trailing_classes_of_minus_infinity_are_not_classes_of_their_row(lesson: Lesson) -> None:
    labels, num_kept_B = lesson.labels, lesson.valid_B.clamp(max=lesson.labels.k)

    assert labels.valid_B is not None
    assert labels.valid_B.tolist() == lesson.valid_B.tolist()
    assert (~labels.logits_BK.isneginf()).sum(dim=1).tolist() == num_kept_B.tolist()
    assert labels.num_tail_B.tolist() == (lesson.valid_B - num_kept_B).tolist()
    for row, (_, alone) in enumerate(each_row_alone(lesson)):
        assert labels.class_ids_BK[row, : alone.k].equal(alone.class_ids_BK[0])
        assert labels.logits_BK[row, : alone.k].equal(alone.logits_BK[0])
        assert_close(labels.log_tail_BT[row], alone.log_tail_BT[0])


def test_a_class_of_minus_infinity_before_others_is_a_class_of_its_row() -> None:
    teacher_BC = torch.tensor([[1.0, -math.inf, 2.0, -math.inf], [-math.inf, 0.0, 0.0, 0.0]])

    labels = keep_top_k(teacher_BC, k=1, has_valid=True)

    assert labels.valid_B is not None
    assert labels.valid_B.tolist() == [3, 4]


def test_rows_are_taken_to_have_all_classes_unless_it_is_asked_for() -> None:
    lesson = make_lesson()

    labels = keep_top_k(lesson.teacher_BC, k=4, temperatures=TEMPERATURES)

    assert labels.valid_B is None
    assert labels.log_tail_BT.equal(lesson.labels.log_tail_BT)


# KL.


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES))
def test_the_loss_of_a_row_is_that_of_dense_distributions_over_its_classes(
    tail: Tail, lesson: Lesson, temperature: float
) -> None:
    loss_B = kl_rows(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)
    loss = distillation_loss(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)

    expected_B = dense_kl(*dense_pair(lesson, temperature=temperature, tail=tail))
    assert_close(loss_B.double(), expected_B, rtol=1e-5, atol=1e-5)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), temperature**2 * expected_B.mean(), rtol=1e-5, atol=1e-5 * temperature**2)


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES), seed=st.integers(0, 100))
def test_it_is_also_where_any_classes_are_missing(tail: Tail, lesson: Lesson, temperature: float, seed: int) -> None:
    student_BC, labels = shuffled(lesson, seed=seed)
    student_BC.requires_grad_()

    loss_B = kl_rows(student_BC, labels, temperature=temperature, tail=tail)
    loss = distillation_loss(student_BC, labels, temperature=temperature, tail=tail)

    expected_B = dense_kl(*dense_pair(lesson, temperature=temperature, tail=tail))
    assert_close(loss_B.double(), expected_B, rtol=1e-5, atol=1e-5)
    assert_close(loss.double(), temperature**2 * expected_B.mean(), rtol=1e-5, atol=1e-5 * temperature**2)
    traced, atol = temperature**2 * loss_B.mean(), 5e-6 * max(temperature, 1)
    assert_close(gradient(loss, student_BC), gradient(traced, student_BC), rtol=1e-4, atol=atol)


@pytest.mark.parametrize("coding", CODINGS)
@given(lesson=lessons(), seed=st.integers(0, 100))
def test_which_classes_a_row_has_is_stored_exactly(coding: Coding, lesson: Lesson, seed: int) -> None:
    _, labels = shuffled(lesson, seed=seed)
    how = LabelCoding(
        coding=coding,
        num_classes=labels.num_classes,
        temperatures=labels.temperatures,
        has_valid=True,
        masked=True,
    )

    found = how.decode(how.encode(labels))

    assert found.valid_B is not None
    assert found.valid_bits_BW is not None
    assert found.valid_B.tolist() == lesson.valid_B.tolist()
    assert labels.valid_bits_BW is not None
    assert found.valid_bits_BW.equal(labels.valid_bits_BW)
    assert found.class_ids_BK.equal(labels.class_ids_BK)
    assert found.logits_BK.isneginf().equal(labels.logits_BK.isneginf())


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES))
def test_the_gradient_is_that_of_the_traced_formula_and_of_dense_distributions(
    tail: Tail, lesson: Lesson, temperature: float
) -> None:
    lesson.student_BC.requires_grad_()

    loss = distillation_loss(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)

    traced = temperature**2 * kl_rows(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail).mean()
    dense = temperature**2 * dense_kl(*dense_pair(lesson, temperature=temperature, tail=tail)).mean()
    found_BC, atol = gradient(loss, lesson.student_BC), 5e-6 * max(temperature, 1)
    assert_close(found_BC, gradient(traced, lesson.student_BC), rtol=1e-4, atol=atol)
    assert_close(found_BC, gradient(dense, lesson.student_BC), rtol=1e-4, atol=atol)


@pytest.mark.parametrize("tail", TAILS)
@given(lesson=lessons(), temperature=st.sampled_from(TEMPERATURES))
def test_with_a_masked_student_each_row_is_one_of_a_problem_with_its_classes_alone(
    tail: Tail, lesson: Lesson, temperature: float
) -> None:
    student_BC = lesson.student_BC.masked_fill(~lesson.is_valid_BC, MASKED)

    loss_B = kl_rows(student_BC, lesson.labels, temperature=temperature, tail=tail)

    alone_B = [kl_rows(z_BC, labels, temperature=temperature, tail=tail) for z_BC, labels in each_row_alone(lesson)]
    assert_close(loss_B, torch.cat(alone_B), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tail", TAILS)
def test_rows_whose_every_class_is_kept_are_compared_in_full(tail: Tail) -> None:
    lesson = make_lesson(valid=[1, 2, 5, 7], k=7)

    loss_B = kl_rows(lesson.student_BC, lesson.labels, temperature=2.0, tail=tail)

    teacher_BC = (lesson.teacher_BC.double() / 2).log_softmax(dim=1)
    student_BC = (lesson.student_BC.double() / 2).log_softmax(dim=1)
    assert lesson.labels.log_tail_BT.isneginf().all()
    assert_close(loss_B.double(), dense_kl(student_BC, teacher_BC), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("num_classes", [12, 100])
def test_where_all_classes_are_valid_the_loss_is_the_ordinary_one(tail: Tail, k: int, num_classes: int) -> None:
    lesson = make_lesson(valid=[num_classes] * 5, num_classes=num_classes, k=k)
    ordinary = keep_top_k(lesson.teacher_BC, k=k, temperatures=TEMPERATURES)
    student_BC = lesson.student_BC.requires_grad_()

    loss = distillation_loss(student_BC, lesson.labels, temperature=2.0, tail=tail)

    expected = distillation_loss(student_BC, ordinary, temperature=2.0, tail=tail)
    assert_close(loss, expected, rtol=3e-7, atol=0)  # a sum in another order
    assert gradient(loss, student_BC).equal(gradient(expected, student_BC))


def parser_lesson() -> Lesson:
    """384 classes, of which a row has 20 to 60; 20 are kept. The student says about what the teacher said."""
    generator = torch.Generator().manual_seed(1)
    valid = torch.randint(20, 61, (64,), generator=generator).tolist()
    lesson = make_lesson(valid=valid, num_classes=384, k=20, scale=1.5)
    student_BC = lesson.teacher_BC + 2 * torch.randn(lesson.teacher_BC.shape, generator=generator)
    return replace(lesson, student_BC=student_BC.masked_fill(~lesson.is_valid_BC, MASKED))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_a_tail_shared_by_classes_that_a_row_has_not_would_cost_hundreds_of_nats(temperature: float) -> None:
    lesson = parser_lesson()

    loss = kl_rows(lesson.student_BC, lesson.labels, temperature=temperature).mean().item()
    shared_by_all = kl_rows(lesson.student_BC, replace(lesson.labels, valid_B=None), temperature=temperature).mean()

    student_BC = (lesson.student_BC.double() / temperature).log_softmax(dim=1)
    teacher_BC = (lesson.teacher_BC.double() / temperature).log_softmax(dim=1)
    dense = dense_kl(student_BC, teacher_BC).mean().item()
    assert shared_by_all > 500
    assert dense < 2
    assert loss == pytest.approx(dense, rel=0.1)  # measured: 2, 5 and 7 % more


# Between stored temperatures.


@pytest.mark.parametrize("tail", ["uniform", "bucket"])
@pytest.mark.parametrize("temperature", [3.0, 50.0])
@pytest.mark.filterwarnings("ignore::softlab.errors.InterpolatedTail")
def test_a_tail_is_interpolated_with_the_classes_that_a_row_has(tail: Tail, temperature: float) -> None:
    lesson = make_lesson()

    log_tail_B = lesson.labels.log_tail_at(temperature)
    loss_B = kl_rows(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)

    for row, (student_BC, labels) in enumerate(each_row_alone(lesson)):
        alone_B = kl_rows(student_BC, labels, temperature=temperature, tail=tail)
        assert_close(log_tail_B[[row]], labels.log_tail_at(temperature), rtol=1e-5, atol=1e-5)
        assert_close(loss_B[[row]], alone_B, rtol=1e-4, atol=1e-5)


# Parts of a block.


@pytest.mark.parametrize("tail", TAILS)
def test_parts_of_a_block_have_the_loss_that_they_would_have_alone(tail: Tail) -> None:
    lesson = make_lesson()

    parts = lesson.labels.split([2, 1, 3])

    for part, rows in zip(parts, (slice(0, 2), slice(2, 3), slice(3, 6)), strict=True):
        student_BC = lesson.student_BC[rows]
        assert part.valid_B is not None
        assert part.valid_B.equal(lesson.valid_B[rows])
        loss = distillation_loss(student_BC, part, temperature=2.0, tail=tail)
        expected = distillation_loss(student_BC, part.alone(), temperature=2.0, tail=tail)
        assert loss.equal(expected)


def test_what_is_made_of_a_block_once_is_split_with_its_classes() -> None:
    lesson, made = make_lesson(), []

    def make(labels: SoftLabels) -> Target:
        made.append(len(labels))
        return target_of(distribution_at(labels, temperature=2.0, tail="uniform"))

    targets = [part.once_for_all("a key", make) for part in lesson.labels.split([2, 4])]

    assert made == [6]
    found_BC = torch.cat([target.is_valid_BC for target in targets if target.is_valid_BC is not None])
    assert found_BC.equal(lesson.is_valid_BC)


# In a store.


def coding_of(labels: SoftLabels, coding: Coding) -> LabelCoding:
    return LabelCoding(coding=coding, num_classes=labels.num_classes, temperatures=labels.temperatures, has_valid=True)


@pytest.mark.parametrize("coding", CODINGS)
@given(lesson=lessons())
def test_the_classes_of_each_row_come_back_from_a_store(coding: Coding, lesson: Lesson) -> None:
    stored = coding_of(lesson.labels, coding)

    labels = stored.decode(stored.encode(lesson.labels))

    assert labels.valid_B is not None
    assert labels.valid_B.dtype == torch.int64
    assert labels.valid_B.tolist() == lesson.valid_B.tolist()
    assert labels.class_ids_BK.equal(lesson.labels.class_ids_BK)
    assert labels.logits_BK.isneginf().equal(lesson.labels.logits_BK.isneginf())
    assert labels.log_tail_BT.isneginf().equal(lesson.labels.log_tail_BT.isneginf())


@pytest.mark.parametrize("coding", CODINGS)
def test_a_class_that_a_row_has_not_is_not_a_clipped_logit(coding: Coding) -> None:
    labels = make_lesson(k=12).labels
    stored = coding_of(labels, coding)

    assert stored.count_clipped(labels, stored.encode(labels)) == 0


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("coding", "cost"), [("float32", 0), ("float16", 2e-3), ("uint8", 0.05)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_coding_costs_little_where_rows_have_fewer_classes_than_are_kept(
    tail: Tail, coding: Coding, cost: float, temperature: float
) -> None:
    """Gaps can't tell minus infinity. With the largest gap in its place, 16 nats, a loss was 46 nats off."""
    lesson = make_lesson(valid=[1, 2, 3, 5, 8], k=8)
    stored = coding_of(lesson.labels, coding)

    labels = stored.decode(stored.encode(lesson.labels))

    loss_B = kl_rows(lesson.student_BC, labels, temperature=temperature, tail=tail)
    expected_B = kl_rows(lesson.student_BC, lesson.labels, temperature=temperature, tail=tail)
    assert_close(loss_B, expected_B, rtol=0, atol=cost + 1e-6)


def test_the_step_of_a_coding_is_chosen_for_the_classes_that_rows_have() -> None:
    """A row with all classes kept, and the same row among more classes."""
    few = make_lesson(valid=[8] * 6, num_classes=8, k=8)
    many_BC = torch.nn.functional.pad(few.teacher_BC, (0, 4), value=-math.inf)
    many = keep_top_k(many_BC, k=12, temperatures=TEMPERATURES, has_valid=True)

    assert choose_gap_step(many) == choose_gap_step(few.labels) < max(STEPS)


@pytest.mark.parametrize(
    ("num_classes", "dtype"), [(200, "uint16"), (40_000, "uint16"), (65_535, "uint16"), (65_536, "uint32")]
)
def test_a_row_may_have_all_classes_however_many_there_are(num_classes: int, dtype: str) -> None:
    """One more than the highest class id, which may need a wider integer."""
    labels = keep_top_k(torch.arange(num_classes).float()[None], k=2, has_valid=True)
    stored = coding_of(labels, "float32")

    arrays = stored.encode(labels)

    decoded = stored.decode(arrays)
    assert arrays["valid"].dtype.name == stored.valid_dtype == dtype
    assert decoded.valid_B is not None
    assert decoded.valid_B.tolist() == [num_classes]


def test_labels_without_counts_are_stored_as_rows_with_all_classes() -> None:
    labels = keep_top_k(torch.randn(3, 9), k=2)

    decoded = coding_of(labels, "float16").decode(coding_of(labels, "float16").encode(labels))

    assert decoded.valid_B is not None
    assert decoded.valid_B.tolist() == [9, 9, 9]


def test_an_output_whose_rows_all_have_the_same_classes_stores_no_counts() -> None:
    labels = keep_top_k(torch.randn(3, 9), k=2)
    stored = LabelCoding(coding="float16", num_classes=9, temperatures=labels.temperatures)

    assert "valid" not in stored.encode(labels)
    assert stored.decode(stored.encode(labels)).valid_B is None


# What is refused.


OTHERS = [name for name in get_args(LossName) if name not in TAKE_VALID]


@pytest.mark.parametrize("name", OTHERS)
def test_a_loss_that_gives_something_to_every_class_is_refused(name: LossName) -> None:
    lesson = make_lesson()
    labels = replace(lesson.labels, head="sigmoid") if name == "bce" else lesson.labels
    targets_B = torch.zeros(len(labels), dtype=torch.int64)

    with pytest.raises(
        StoreMismatch, match=f"{name} is for rows that all have the same classes.*`loss.name` kl or hinge"
    ):
        decision_loss(lesson.student_BC, labels, targets_B=targets_B, options=make_loss(name))


@pytest.mark.parametrize("name", TAKE_VALID)
def test_a_loss_that_knows_them_takes_them(name: LossName) -> None:
    lesson = make_lesson()

    loss = decision_loss(lesson.student_BC, lesson.labels, options=make_loss(name))

    assert loss.isfinite()


def test_their_teachers_are_not_combined() -> None:
    labels = make_lesson().labels

    with pytest.raises(StoreMismatch, match="Train from one of their stores"):
        combine([labels, labels], torch.full((len(labels), 2), 0.5), by="probabilities", temperature=2.0)


def test_raw_logits_are_not_compared_where_only_probabilities_are_known() -> None:
    labels = replace(keep_top_k(torch.randn(3, 9), k=2), absolute=False)

    with pytest.raises(StoreMismatch, match=r"mse compares raw logits, but .* Use `loss.name = kl`\."):
        logit_mse_loss(torch.randn(3, 9), labels)


def test_probabilities_stay_nothing_but_probabilities() -> None:
    labels = replace(keep_top_k(torch.randn(3, 9), k=2), absolute=False)
    stored = LabelCoding(coding="uint8", num_classes=9, temperatures=labels.temperatures, absolute=False)

    assert not stored.decode(stored.encode(labels)).absolute
    assert not labels.to("meta").absolute
    assert [part.absolute for part in labels.split([1, 2])] == [False, False]
    assert not labels.alone().absolute
    torch.testing.assert_close(
        distillation_loss(torch.ones(3, 9), labels, temperature=2.0),
        distillation_loss(torch.ones(3, 9), replace(labels, absolute=True), temperature=2.0),
    )


@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("loss", TAKE_VALID)
def test_a_student_may_say_itself_which_classes_a_row_does_not_have(k: int, loss: LossName) -> None:
    lesson = make_lesson(k=k)
    without_BC = lesson.student_BC.masked_fill(~lesson.is_valid_BC, -math.inf).requires_grad_()
    masked_BC = lesson.student_BC.clone().requires_grad_()

    found, expected = (make_loss(loss)(each, lesson.labels) for each in (without_BC, masked_BC))

    assert_close(found, expected)
    assert_close(gradient(found, without_BC), gradient(expected, masked_BC))


@pytest.mark.parametrize("tail", TAILS)
def test_the_rows_of_kl_take_such_a_student_with_each_tail(tail: Tail) -> None:
    lesson = make_lesson()
    without_BC = lesson.student_BC.masked_fill(~lesson.is_valid_BC, -math.inf)

    found = kl_rows(without_BC, lesson.labels, temperature=1.0, tail=tail)

    assert_close(found, kl_rows(lesson.student_BC, lesson.labels, temperature=1.0, tail=tail))
