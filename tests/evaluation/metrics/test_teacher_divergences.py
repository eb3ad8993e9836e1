# Shape letters: N samples, C classes, K entries kept.

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.evaluation.metrics.teacher_divergences import TeacherBucketKl, TeacherJensenShannon
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.models.device import DeviceOptions
from softlab.store.reader import open_store
from softlab.teacher.options import DumpOptions
from tests.evaluation.pictures import (
    CPU,
    PICTURES,
    STUDENT,
    TEACHER,
    dense,
    make_store,
    measure,
    outputs_of,
)
from tests.student.random_batch import random_batch
from tests.teacher.dumping import NUM_CLASSES, dump

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
def test_both_are_the_dense_ones_or_those_with_the_tail_as_one_class(
    tmp_path: Path, k: int, temperature: tuple[float, ...], measured_at: float
) -> None:
    found = measure(make_store(tmp_path, k=k, temperature=temperature))

    teacher_NC = (dense(TEACHER) / measured_at).softmax(dim=1)
    student_NC = (dense(STUDENT) / measured_at).softmax(dim=1)
    merged = [bucketed(each_NC, kept_NK=teacher_NC.topk(k, dim=1).indices) for each_NC in (teacher_NC, student_NC)]
    expected, bucket = mean_jensen_shannon(*merged), "bucket_" if k < NUM_CLASSES else ""
    assert found.values[f"teacher_{bucket}kl"] == pytest.approx(mean_kl(*merged), rel=1e-5)
    assert found.values[f"teacher_{bucket}jensen_shannon"] == pytest.approx(expected, rel=1e-5)
    assert 0 < expected < np.log(2)
    assert ("teacher_kl" in found.values) != ("teacher_bucket_kl" in found.values)


@pytest.mark.parametrize("k", [1, 4])
def test_a_copy_of_the_teacher_has_no_divergence_from_a_store_of_some_classes(tmp_path: Path, k: int) -> None:
    found = measure(make_store(tmp_path, k=k), module=TEACHER)

    assert found.values["teacher_bucket_kl"] == pytest.approx(0, abs=1e-6)
    assert found.values["teacher_bucket_jensen_shannon"] == pytest.approx(0, abs=1e-6)


@given(
    teacher=st.lists(st.floats(-12, 12, width=32), min_size=7, max_size=7),
    student=st.lists(st.floats(-12, 12, width=32), min_size=7, max_size=7),
    k=st.integers(1, 6),
)
def test_the_bucket_figure_is_nothing_for_a_copy_and_never_above_the_true_one(
    teacher: list[float], student: list[float], k: int
) -> None:
    teacher_1C, student_1C = torch.tensor([teacher]), torch.tensor([student])
    labels = keep_top_k(teacher_1C, k=k)
    p_1C, q_1C = teacher_1C.double().softmax(dim=1), student_1C.double().softmax(dim=1)
    full = (p_1C * (p_1C.log() - q_1C.log())).sum().item()

    assert bucket_kl(labels, teacher_1C) == pytest.approx(0, abs=2e-5)
    assert -2e-5 <= bucket_kl(labels, student_1C) <= full + 2e-5


def bucket_kl(labels: SoftLabels, logits_BC: Tensor) -> float:
    metric = TeacherBucketKl(CPU)
    metric.add(outputs_of(logits_BC), replace(random_batch(), labels=labels))
    value = metric.value()
    assert value is not None
    return value


def bucketed(probability_NC: Tensor, *, kept_NK: Tensor) -> Tensor:
    """The kept classes and, unless they are all, the rest as one."""
    head_NK = probability_NC.gather(1, kept_NK)
    rest_N1 = probability_NC.scatter(1, kept_NK, 0.0).sum(dim=1, keepdim=True)
    return head_NK if kept_NK.shape[1] == probability_NC.shape[1] else torch.cat([head_NK, rest_N1], dim=1)


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


def test_of_few_classes_a_dump_tells_the_dense_figure_by_itself(tmp_path: Path) -> None:
    """Twenty, of which sixteen would leave a tail."""
    dump(tmp_path / "store", DumpOptions(device=DeviceOptions(name="cpu")), teacher=TEACHER, source=PICTURES)

    found = measure(open_store(tmp_path / "store"))

    expected = mean_kl(dense(TEACHER).softmax(dim=1), dense(STUDENT).softmax(dim=1))
    assert found.values["teacher_kl"] == pytest.approx(expected, rel=1e-3)
    assert "KL to the teacher, all classes" in repr(found)
    assert "other classes as one" not in repr(found)
