"""The acceptance rate in speculative sampling against its definition in float64."""

# Shape letters: R rows, C classes, K entries kept.

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from softlab.evaluation.metrics.acceptance import Acceptance
from softlab.labels.draws import uniforms
from softlab.labels.sampling import keep_sampled
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.evaluation.pictures import CPU, outputs_of
from tests.student.lazy import rows_batch

ROWS, CLASSES = 200, 50
RANDOM = torch.Generator().manual_seed(5)
TEACHER_RC = 2 * torch.randn(ROWS, CLASSES, generator=RANDOM)
STUDENT_RC = TEACHER_RC + torch.randn(ROWS, CLASSES, generator=RANDOM)
P_RC, Q_RC = TEACHER_RC.double().softmax(dim=1), STUDENT_RC.double().softmax(dim=1)
EXACT = torch.minimum(P_RC, Q_RC).sum(dim=1).mean().item()


def measure(labels: SoftLabels, logits_RC: Tensor = STUDENT_RC) -> float:
    metric = Acceptance(CPU)
    metric.add(outputs_of(logits_RC), replace(rows_batch(), labels=labels))
    value = metric.value()
    assert value is not None
    return value


def sampled(seed: int, *, resolution: int = 8) -> SoftLabels:
    rows_R = torch.arange(ROWS)
    drawn_R2 = uniforms(seed, view=0, samples_R=rows_R, units_R=rows_R)
    return keep_sampled(TEACHER_RC, resolution=resolution, uniforms_R2=drawn_R2)


def test_with_all_classes_kept_it_is_exact() -> None:
    assert measure(keep_top_k(TEACHER_RC, k=CLASSES, temperatures=(1.0,))) == pytest.approx(EXACT)


def test_a_copy_of_the_teacher_is_always_accepted() -> None:
    labels = keep_top_k(TEACHER_RC, k=CLASSES, temperatures=(1.0,))

    assert measure(labels, TEACHER_RC) == pytest.approx(1.0)


def test_of_the_largest_classes_it_is_what_they_give() -> None:
    top_R5 = P_RC.topk(5, dim=1).indices
    expected = torch.minimum(P_RC, Q_RC).gather(1, top_R5).sum(dim=1).mean().item()

    found = measure(keep_top_k(TEACHER_RC, k=5, temperatures=(1.0,)))

    assert found == pytest.approx(expected)
    assert found < EXACT


def test_of_a_sample_it_is_a_lower_bound_above_what_the_exact_classes_give() -> None:
    head = torch.minimum(P_RC, Q_RC).where(P_RC >= 1 / 8, 0.0).sum(dim=1).mean().item()

    found = [measure(sampled(seed)) for seed in range(100)]

    assert head < sum(found) / len(found) < EXACT


def test_a_class_that_was_drawn_twice_shares_its_probability() -> None:
    """Of one row: class 3 with a weight of 0.5, class 1 twice with 0.2 each, and fill, which is no class 0."""
    weights_RK = torch.tensor([[0.5, 0.2, 0.2, 0.0]])
    labels = SoftLabels(
        class_ids_BK=torch.tensor([[3, 1, 1, 0]]),
        logits_BK=weights_RK.log() - weights_RK[:, :1].log(),
        log_tail_BT=torch.full((1, 1), -torch.inf),
        max_logit_B=weights_RK[:, 0].log(),
        temperatures=(1.0,),
        num_classes=4,
        absolute=False,
        interpolates=False,
        entropy_B=torch.ones(1),
    )
    q_RC = torch.tensor([[0.1, 0.3, 0.4, 0.2]])

    assert measure(labels, q_RC.log()) == pytest.approx(0.2 + 0.3)
