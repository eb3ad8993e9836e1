"""The divergence of sampled rows against that of whole ones in float64."""

# Shape letters: R rows, C classes.

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from softlab.evaluation.metrics.teacher_divergences import TeacherSampledKl
from tests.evaluation.metrics.test_acceptance import P_RC, Q_RC, STUDENT_RC, TEACHER_RC, sampled
from tests.evaluation.pictures import CPU, outputs_of
from tests.student.lazy import rows_batch


def measure(seed: int, logits_RC: Tensor = STUDENT_RC) -> float:
    metric = TeacherSampledKl(CPU)
    metric.add(outputs_of(logits_RC), replace(rows_batch(), labels=sampled(seed)))
    value = metric.value()
    assert value is not None
    return value


def test_the_divergence_of_sampled_rows_is_the_full_one_in_the_mean_over_draws() -> None:
    exact = (P_RC * (P_RC.log() - Q_RC.log())).sum(dim=1).mean().item()

    found = torch.tensor([measure(seed) for seed in range(100)])

    assert found.mean().item() == pytest.approx(exact, abs=4 * found.std().item() / 10)
    assert found.std() > 0


def test_a_copy_of_the_teacher_is_near_it_by_a_sample() -> None:
    assert measure(0, TEACHER_RC) == pytest.approx(0, abs=0.02)
