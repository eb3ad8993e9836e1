from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from softlab.errors import InvalidOption
from softlab.loading.mixed_targets import MixedTargets
from softlab.student.objective import hard_loss
from softlab.student.options import TargetOptions
from tests.student.pictures import NUM_CLASSES, feature_batch, make_store, make_student, pictures, train

WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)
LOGITS_BC = torch.randn(6, NUM_CLASSES, generator=torch.Generator().manual_seed(1))
BATCH = feature_batch()


def test_the_weighted_mean_is_that_of_torch() -> None:
    found = hard_loss(LOGITS_BC, BATCH, label_smoothing=0.1, class_weights=WEIGHTS)

    assert BATCH.targets_B is not None
    expected = functional.cross_entropy(LOGITS_BC, BATCH.targets_B, weight=torch.tensor(WEIGHTS), label_smoothing=0.1)
    torch.testing.assert_close(found, expected)


def test_a_mixed_view_counts_as_much_as_its_two_targets() -> None:
    targets_B, own_B = torch.tensor([1, 2, 3, 4, 0, 1]), torch.tensor([1.0, 0.3, 0.5, 0.9, 0.2, 0.6])
    mixed = replace(BATCH, mixed=MixedTargets(targets_B=targets_B, weights_B=own_B))

    found = hard_loss(LOGITS_BC, mixed, class_weights=WEIGHTS)

    weight_C, log_p_BC = torch.tensor(WEIGHTS).double(), LOGITS_BC.double().log_softmax(dim=1)
    total, weight = 0.0, 0.0
    for row in range(6):
        for target, share in [(int(BATCH.targets_B[row]), own_B[row]), (int(targets_B[row]), 1 - own_B[row])]:  # type: ignore[index]
            total -= float(share * weight_C[target] * log_p_BC[row, target])
            weight += float(share * weight_C[target])
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


def test_a_batch_of_classes_without_weight_adds_nothing() -> None:
    only_two = replace(BATCH, targets_B=torch.full((6,), 2))
    logits_BC = LOGITS_BC.clone().requires_grad_()

    loss = hard_loss(logits_BC, only_two, class_weights=WEIGHTS)

    assert loss.item() == 0


def test_balanced_classes_weigh_alike_in_sum(tmp_path: Path) -> None:
    source = pictures()
    counts_C = np.bincount(source.targets_N, minlength=NUM_CLASSES)  # type: ignore[arg-type]
    weights = tuple(counts_C.sum() / NUM_CLASSES / counts_C)
    store = make_store(tmp_path / "store")
    balanced, given = make_student(), make_student()

    train(balanced, store, class_weights="balanced", alpha=0.5)
    train(given, store, class_weights=tuple(map(float, weights)), alpha=0.5)

    assert all(one.equal(other) for one, other in zip(balanced.parameters(), given.parameters(), strict=True))


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (0.0, 0.0), "even"])
def test_weights_that_are_none_are_refused(weights: object) -> None:
    with pytest.raises(InvalidOption, match=r"targets\.class_weights = "):
        TargetOptions(class_weights=weights)  # type: ignore[arg-type]


def test_weights_for_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="3 numbers, but the student has 5 outputs"):
        train(make_student(), make_store(tmp_path / "store"), class_weights=(1.0, 2.0, 3.0))


def test_weights_beside_new_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"with `distil\.new_classes` there are none"):
        train(make_student(num_classes=7), make_store(tmp_path / "store"), class_weights=(1.0,) * 7, new_classes=True)
