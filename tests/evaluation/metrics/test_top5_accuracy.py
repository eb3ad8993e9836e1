from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from softlab.evaluation.metrics.top5_accuracy import Top5Accuracy
from softlab.store.reader import open_store
from tests.evaluation.pictures import CPU, PICTURES, STUDENT, TARGETS_N, dense, measure, outputs_of
from tests.student.random_batch import random_batch
from tests.teacher.dumping import dump, make_options, make_teacher

SIX = tuple("abcdef")


def test_a_row_is_right_where_fewer_than_five_classes_have_a_larger_logit() -> None:
    found = measure().values

    logits_NC, is_known_N = dense(STUDENT).numpy(), TARGETS_N >= 0
    larger_N = (logits_NC > np.take_along_axis(logits_NC, TARGETS_N[:, None], axis=1)).sum(axis=1)
    assert found["top5_accuracy"] == pytest.approx((larger_N < 5)[is_known_N].mean(), abs=1e-12)
    assert found["accuracy"] < found["top5_accuracy"] < 1


def test_a_model_that_knows_nothing_is_not_right_by_equal_logits() -> None:
    batch = replace(random_batch(rows=6), targets_B=torch.arange(6))
    metric = Top5Accuracy(CPU)

    metric.add(outputs_of(torch.zeros(6, 6)), batch)

    assert metric.value() == pytest.approx(5 / 6)


def test_a_model_with_fewer_outputs_is_right_about_no_other_class() -> None:
    batch = replace(random_batch(rows=3), targets_B=torch.tensor([0, 3, 5]))
    metric = Top5Accuracy(CPU)

    metric.add(outputs_of(torch.zeros(3, 4)), batch)

    assert metric.value() == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [5, 6])
@pytest.mark.parametrize("known_by", ["names", "targets", "labels"])
def test_it_is_measured_where_there_are_more_than_five_classes(tmp_path: Path, count: int, known_by: str) -> None:
    targets_N = TARGETS_N % (count if known_by == "targets" else 2)
    names = SIX[:count] if known_by == "names" else None
    source = replace(PICTURES, targets_N=targets_N, class_names=names)
    module, store = make_teacher(num_classes=count), None
    if known_by == "labels":
        dump(tmp_path / "store", make_options(k=2), teacher=module, source=source)
        store = open_store(tmp_path / "store")

    found = measure(store, module=module, source=source)

    assert ("top5_accuracy" in found.values) == (count == 6)
