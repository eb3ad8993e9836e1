# Shape letters: B rows in a batch, C classes.

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import KlLoss, Tail, distillation_loss
from softlab.loading.mixed_targets import MixedTargets
from softlab.student.objective import HARD_TARGETS, Objective, hard_loss
from softlab.student.options import TeachersOptions
from tests.student.random_batch import NUM_CLASSES, random_batch

LOGITS_BC = torch.randn(8, NUM_CLASSES, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("tail", get_args(Tail))
def test_the_loss_is_the_mix_of_distillation_and_cross_entropy(alpha: float, tail: Tail) -> None:
    batch = random_batch(k=3)
    assert batch.labels is not None
    assert batch.targets_B is not None

    loss = Objective(teachers=TeachersOptions(alpha=alpha), loss=KlLoss(temperature=4.0, tail=tail))(LOGITS_BC, batch)

    soft = distillation_loss(LOGITS_BC, batch.labels, temperature=4.0, tail=tail)
    hard = functional.cross_entropy(LOGITS_BC, batch.targets_B)
    torch.testing.assert_close(loss, alpha * soft + (1 - alpha) * hard)


def test_with_all_classes_kept_it_is_the_loss_of_hinton_et_al() -> None:
    """As plain torch code with the teacher's dense logits has it."""
    batch = random_batch()
    assert batch.labels is not None
    assert batch.targets_B is not None
    teacher_BC = torch.empty_like(LOGITS_BC).scatter_(1, batch.labels.class_ids_BK, batch.labels.logits_BK)

    loss = Objective(teachers=TeachersOptions(alpha=0.9), loss=KlLoss(temperature=2.0))(LOGITS_BC, batch)

    divergence = functional.kl_div(
        functional.log_softmax(LOGITS_BC / 2, dim=1), functional.softmax(teacher_BC / 2, dim=1), reduction="batchmean"
    )
    expected = 0.9 * 4 * divergence + 0.1 * functional.cross_entropy(LOGITS_BC, batch.targets_B)
    torch.testing.assert_close(loss, expected)


def test_the_baseline_needs_no_soft_labels() -> None:
    batch = random_batch()
    assert batch.targets_B is not None

    loss = HARD_TARGETS(LOGITS_BC, replace(batch, labels=None))

    torch.testing.assert_close(loss, functional.cross_entropy(LOGITS_BC, batch.targets_B))


def test_on_soft_labels_alone_no_hard_target_is_needed() -> None:
    objective = Objective(teachers=TeachersOptions(alpha=1.0), loss=KlLoss(temperature=4.0))

    assert objective(LOGITS_BC, replace(random_batch(), targets_B=None)).isfinite()


def test_without_hard_targets_a_mix_is_refused_with_the_options_that_do_without() -> None:
    objective = Objective(teachers=TeachersOptions(alpha=0.9), loss=KlLoss(temperature=4.0))

    with pytest.raises(StoreMismatch, match=r"`teachers\.alpha = 1`, without `distil\.baseline`"):
        objective(LOGITS_BC, replace(random_batch(), targets_B=None))


def test_rows_with_an_unknown_target_count_for_nothing_in_the_hard_loss() -> None:
    targets_B = torch.tensor([1, -1, 0, 5, -1, 2, 2, -1])
    known_B = targets_B >= 0

    loss = hard_loss(LOGITS_BC, replace(random_batch(), targets_B=targets_B))

    torch.testing.assert_close(loss, functional.cross_entropy(LOGITS_BC[known_B], targets_B[known_B]))


def test_a_batch_of_unknown_targets_has_no_hard_loss_and_no_gradient() -> None:
    logits_BC = LOGITS_BC.clone().requires_grad_()

    loss = hard_loss(logits_BC, replace(random_batch(), targets_B=torch.full((8,), -1)))
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == 0
    assert logits_BC.grad is not None
    assert logits_BC.grad.eq(0).all()


def test_the_loss_is_float32_also_for_shorter_logits() -> None:
    loss = Objective(teachers=TeachersOptions(alpha=0.5), loss=KlLoss(temperature=4.0))(
        LOGITS_BC.bfloat16(), random_batch()
    )

    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())


def test_a_student_with_another_number_of_classes_is_refused() -> None:
    with pytest.raises(StoreMismatch, match=f"Build the student with num_classes = {NUM_CLASSES}"):
        Objective(teachers=TeachersOptions(alpha=1.0), loss=KlLoss(temperature=4.0))(LOGITS_BC[:, :-1], random_batch())


def test_a_temperature_below_the_stored_ones_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"dump again with 0\.5 among `dump\.temperature`"):
        Objective(teachers=TeachersOptions(alpha=1.0), loss=KlLoss(temperature=0.5))(LOGITS_BC, random_batch(k=3))


# Label smoothing.


def smoothed(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    return functional.cross_entropy(logits_BC, targets_B, label_smoothing=0.2)


def test_smoothed_hard_targets_are_those_of_torch() -> None:
    batch = random_batch()
    assert batch.targets_B is not None
    assert batch.labels is not None

    loss = Objective(teachers=TeachersOptions(alpha=0.3), label_smoothing=0.2)(LOGITS_BC, batch)

    soft = distillation_loss(LOGITS_BC, batch.labels, temperature=4.0)
    torch.testing.assert_close(loss, 0.3 * soft + 0.7 * smoothed(LOGITS_BC, batch.targets_B))


def test_rows_with_an_unknown_target_are_not_smoothed_either() -> None:
    targets_B = torch.tensor([1, -1, 0, 5, -1, 2, 2, -1])
    known_B = targets_B >= 0

    loss = hard_loss(LOGITS_BC, replace(random_batch(), targets_B=targets_B), label_smoothing=0.2)

    torch.testing.assert_close(loss, smoothed(LOGITS_BC[known_B], targets_B[known_B]))


def test_both_targets_of_a_mixed_view_are_smoothed() -> None:
    batch, partners_B = random_batch(), torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
    assert batch.targets_B is not None
    mixed = MixedTargets(targets_B=partners_B, weights_B=torch.full((8,), 0.75))

    loss = hard_loss(LOGITS_BC, replace(batch, mixed=mixed), label_smoothing=0.2)

    expected = 0.75 * smoothed(LOGITS_BC, batch.targets_B) + 0.25 * smoothed(LOGITS_BC, partners_B)
    torch.testing.assert_close(loss, expected)
