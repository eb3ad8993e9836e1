"""F1 and Matthews' correlation, which both count samples, predictions and hits by class."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_matthews_corrcoef

from softlab.evaluation.metrics.class_f1 import ClassF1
from softlab.evaluation.metrics.matthews import Matthews
from tests.evaluation.pictures import CPU, outputs_of
from tests.student.random_batch import random_batch


def measured(metric: ClassF1 | Matthews, predicted: list[int], targets: list[int], *, parts: int = 1) -> float | None:
    logits_NC = functional.one_hot(torch.tensor(predicted), 5).float()
    targets_N = torch.tensor(targets)
    for logits_BC, targets_B in zip(logits_NC.chunk(parts), targets_N.chunk(parts), strict=True):
        metric.add(outputs_of(logits_BC), replace(random_batch(rows=len(targets_B)), targets_B=targets_B))
    return metric.value()


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_torchmetrics_over_the_rows_that_are_known(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets_N = torch.randint(-1, 4, (60,), generator=generator)  # of 5 classes the last is never there
    predicted_N = torch.where(torch.rand(60, generator=generator) < 0.5, targets_N, torch.randint(0, 5, (60,))).clamp(0)
    known_N = targets_N >= 0
    both = predicted_N[known_N], targets_N[known_N]

    found = [
        measured(each, predicted_N.tolist(), targets_N.tolist(), parts=3) for each in (ClassF1(CPU), Matthews(CPU))
    ]

    expected = [multiclass_f1_score(*both, 5, average="macro"), multiclass_matthews_corrcoef(*both, 5)]
    assert found == pytest.approx([float(each) for each in expected], abs=1e-6)


def test_a_model_that_always_says_the_same_has_no_correlation() -> None:
    assert measured(Matthews(CPU), [1] * 6, [0, 1, 1, 1, 1, 1]) == 0


def test_a_target_that_the_model_has_no_class_for_is_missed() -> None:
    assert measured(ClassF1(CPU), [0, 1], [0, 7]) == pytest.approx(1 / 3)
    assert measured(Matthews(CPU), [0, 1], [0, 7]) == pytest.approx(0.5)


def test_without_a_known_target_there_is_no_figure() -> None:
    assert measured(ClassF1(CPU), [0, 1], [-1, -1]) is None
    assert measured(Matthews(CPU), [0, 1], [-1, -1]) is None
