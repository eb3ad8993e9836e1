# Shape letters: N samples, C classes, K entries kept.

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from softlab.evaluation.metrics.teacher_divergences import TeacherJensenShannon
from tests.evaluation.pictures import (
    CPU,
    STUDENT,
    TEACHER,
    dense,
    make_store,
    measure,
    outputs_of,
    tail_shared_equally,
)
from tests.student.random_batch import random_batch
from tests.teacher.dumping import NUM_CLASSES

STORES = [
    ((1.0, 4.0), 1),
    ((2.0, 4.0), 2),  # without temperature 1, at its smallest
]


def mean_kl(teacher_NC: Tensor, student_NC: Tensor) -> float:
    return (teacher_NC * (teacher_NC.log() - student_NC.log())).sum(dim=1).mean().item()


def mean_jensen_shannon(teacher_NC: Tensor, student_NC: Tensor) -> float:
    """Half of each one's KL to the mean of both, from the definition."""
    middle_NC = (teacher_NC + student_NC) / 2
    from_teacher_N = (teacher_NC * (teacher_NC / middle_NC).log()).sum(dim=1)
    from_student_N = (student_NC * (student_NC / middle_NC).log()).sum(dim=1)
    return ((from_teacher_N + from_student_N) / 2).mean().item()


@pytest.mark.parametrize("k", [1, 4, NUM_CLASSES])
@pytest.mark.parametrize(("temperature", "measured_at"), STORES)
def test_both_are_the_dense_ones_with_the_tail_shared_equally(
    tmp_path: Path, k: int, temperature: tuple[float, ...], measured_at: float
) -> None:
    found = measure(make_store(tmp_path, k=k, temperature=temperature))

    teacher_NC = tail_shared_equally((dense(TEACHER) / measured_at).softmax(dim=1), k=k)
    student_NC = (dense(STUDENT) / measured_at).softmax(dim=1)
    expected = mean_jensen_shannon(teacher_NC, student_NC)
    assert found.values["teacher_kl"] == pytest.approx(mean_kl(teacher_NC, student_NC), rel=1e-5)
    assert found.values["teacher_jensen_shannon"] == pytest.approx(expected, rel=1e-5)
    assert 0 < expected < np.log(2)


def test_the_teacher_itself_has_no_divergence_from_its_store(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path), module=TEACHER)

    assert found.values["teacher_kl"] == pytest.approx(0, abs=1e-6)
    assert found.values["teacher_jensen_shannon"] == pytest.approx(0, abs=1e-6)


def test_a_model_of_the_same_distribution_has_no_divergence() -> None:
    batch, metric = random_batch(), TeacherJensenShannon(CPU)
    assert batch.labels is not None
    logits_BC = batch.labels.logits_BK.gather(1, batch.labels.class_ids_BK.argsort(dim=1))

    metric.add(outputs_of(logits_BC + 7), batch)

    assert metric.value() == pytest.approx(0, abs=1e-6)
