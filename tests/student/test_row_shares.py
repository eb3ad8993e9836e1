"""Students whose logits are computed some rows at a time learn what those with whole logits learn."""

# Shape letters: R rows of all samples, C classes.

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import softlab.labels.lazy_logits
from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import LOSS_BY_NAME, KlLoss, StudentLoss, make_loss
from softlab.labels.sampling import keep_sampled
from softlab.loading.batch import Batch
from softlab.loading.mixed_targets import MixedTargets
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from tests.student.lazy import NUM_CLASSES, NUM_ROWS, lazy_logits, rows_batch

ROW_BYTES = 4 * NUM_CLASSES


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three rows: the last one has two."""
    monkeypatch.setattr(softlab.labels.lazy_logits, "CHUNK_BYTES", 3 * ROW_BYTES)


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses take logits as float32, whose rounding would hide an error."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def both_ways(
    objective: Objective, batch: Batch, *, progress: float = 0.0, dtype: torch.dtype = torch.float64
) -> list[list[Tensor]]:
    """The loss and its gradients, with logits that are computed some rows at a time, and with whole ones."""
    found = []
    for whole in (False, True):
        logits = lazy_logits(dtype=dtype)
        assert logits.bias_C is not None
        loss = objective(logits.whole() if whole else logits, batch, progress=progress)
        (loss / 2).backward()  # type: ignore[no-untyped-call]  # as one part of two that make a step
        gradients = [logits.hidden.grad, logits.weight_CD.grad, logits.bias_C.grad]
        found.append([loss.detach(), *(gradient for gradient in gradients if gradient is not None)])
    return found


def same(one: list[Tensor], other: list[Tensor], *, rtol: float = 1e-10) -> None:
    assert [len(one), len(other)] == [4, 4]
    for found, expected in zip(one, other, strict=True):
        torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol / 100)


def options_of(name: str) -> StudentLoss:
    return make_loss(name) if name in ("mse", "hinge", "argmax") else make_loss(name, temperature=4.0)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", sorted(LOSS_BY_NAME.keys() - {"dist", "bce"}))
def test_loss_and_gradients_are_those_of_whole_logits(name: str, alpha: float) -> None:
    batch = rows_batch()

    some, whole = both_ways(Objective(teachers=TeachersOptions(alpha=alpha), loss=options_of(name)), batch)

    same(some, whole)


@pytest.mark.usefixtures("in_float64")
def test_a_sigmoid_head_is_learnt_too() -> None:
    batch = rows_batch()
    assert batch.labels is not None
    labels = replace(batch.labels, head="sigmoid")

    some, whole = both_ways(
        Objective(teachers=TeachersOptions(alpha=1.0), loss=options_of("bce")), replace(batch, labels=labels)
    )

    same(some, whole)


def test_weights_of_classes_and_smoothing_count_as_over_the_whole_batch() -> None:
    objective = Objective(
        teachers=TeachersOptions(alpha=0.4),
        loss=KlLoss(temperature=1.0),
        label_smoothing=0.1,
        class_weights=(1.0, 2.0, 0.5, 3.0, 0.0, 1.5, 0.25),
    )

    some, whole = both_ways(objective, rows_batch(), dtype=torch.float32)

    same(some, whole, rtol=1e-5)


@pytest.mark.usefixtures("in_float64")
def test_alpha_and_temperature_may_move_over_a_run() -> None:
    teachers = TeachersOptions(alpha=0.9, alpha_end=0.1)
    objective = Objective(teachers=teachers, loss=KlLoss(temperature=1.0, temperature_end=4.0))

    some, whole = both_ways(objective, rows_batch(), progress=0.25)

    same(some, whole)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("weigh", ["given", "confidence", "correctness"])
def test_several_teachers_are_made_one_before_rows_are_taken(weigh: Any) -> None:
    other = rows_batch(seed=1).labels
    assert other is not None
    teachers = TeachersOptions(alpha=0.5, weigh=weigh)

    some, whole = both_ways(
        Objective(teachers=teachers, loss=KlLoss(temperature=1.0)), replace(rows_batch(), others=(other,))
    )

    same(some, whole)


def sampled_batch() -> Batch:
    random = torch.Generator().manual_seed(0)
    uniforms_R2 = torch.rand(NUM_ROWS, 2, generator=random, dtype=torch.float64)
    logits_RC = 3 * torch.randn(NUM_ROWS, NUM_CLASSES, generator=random)
    return replace(rows_batch(), labels=keep_sampled(logits_RC, resolution=4, uniforms_R2=uniforms_R2))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("known", [True, False])
def test_beside_sampled_rows_hard_targets_are_learnt_in_the_same_pass(
    monkeypatch: pytest.MonkeyPatch, alpha: float, known: bool
) -> None:
    batch = sampled_batch() if known else replace(sampled_batch(), targets_B=torch.full((NUM_ROWS,), -1))
    objective = Objective(teachers=TeachersOptions(alpha=alpha), loss=KlLoss(temperature=1.0))
    some, whole = both_ways(objective, batch, dtype=torch.float32)

    same(some, whole, rtol=1e-5)
    monkeypatch.delattr("softlab.student.objective.hard_loss")
    if alpha > 0:
        objective(lazy_logits(), batch)


def test_a_batch_without_a_known_target_has_no_hard_loss() -> None:
    batch = replace(rows_batch(), targets_B=torch.full((NUM_ROWS,), -1))

    some, _ = both_ways(Objective(teachers=TeachersOptions(alpha=0.0)), batch)

    assert not any(part.any() for part in some)


def test_samples_without_rows_give_gradients_of_zero() -> None:
    logits = lazy_logits()

    loss = Objective()(logits[:0], rows_batch())
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss == 0
    for part in (logits.hidden, logits.weight_CD, logits.bias_C):
        assert part is not None
        assert part.grad is not None
        assert not part.grad.any()


def test_the_logits_of_all_rows_are_never_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    objective = Objective(teachers=TeachersOptions(alpha=0.0))

    def look(logits_BC: Tensor, *_: Any, **__: Any) -> Tensor:
        seen.append(len(logits_BC))
        return logits_BC.sum()

    monkeypatch.setattr("softlab.student.objective.hard_loss", look)

    objective(lazy_logits(), rows_batch())

    assert seen == [3, 3, 3, 2]


def test_what_needs_all_rows_at_once_is_refused() -> None:
    batch = rows_batch()
    mixed = MixedTargets(targets_B=torch.zeros(NUM_ROWS, dtype=torch.int64), weights_B=torch.ones(NUM_ROWS))

    with pytest.raises(InvalidOption, match=r"loss.name = dist: .* Choose another `loss.name`, such as kl"):
        Objective(loss=options_of("dist"))(lazy_logits(), batch)
    with pytest.raises(InvalidOption, match=r"distil.new_classes: .* Leave it out"):
        Objective(loss=KlLoss(temperature=1.0), new_classes=True)(lazy_logits(), batch)
    with pytest.raises(StoreMismatch, match="Let the student return logits as a tensor"):
        Objective(loss=KlLoss(temperature=1.0))(lazy_logits(), replace(batch, mixed=mixed))


def test_without_hard_targets_a_mix_is_refused_as_with_whole_logits() -> None:
    with pytest.raises(StoreMismatch, match=r"`teachers\.alpha = 1`, without `distil\.baseline`"):
        Objective(loss=KlLoss(temperature=1.0))(lazy_logits(), replace(rows_batch(), targets_B=None))
