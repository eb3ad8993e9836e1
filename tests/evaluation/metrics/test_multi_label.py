"""F1 and mean average precision of samples that may be of several classes, beside another library's."""

# Shape letters: N rows, C classes.

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, multilabel_f1_score

from softlab.evaluation.metrics.f1 import MacroF1, MicroF1
from softlab.evaluation.metrics.mean_average_precision import MeanAveragePrecision, average_precision
from softlab.evaluation.metrics.metric import Metric
from softlab.loading.batch import Batch
from tests.evaluation.pictures import COUNT, CPU, STUDENT, dense, measure, outputs_of
from tests.teacher.dumping import NUM_CLASSES, Pictures


def batch_of(label_sets_BC: Tensor) -> Batch:
    count = len(label_sets_BC)
    rows_B = torch.arange(count)
    return Batch(
        source_B=rows_B, views_B=torch.zeros_like(rows_B), inputs=(), content_hashes=(), label_sets_BC=label_sets_BC
    )


def measured(metric: Metric, logits_NC: Tensor, label_sets_NC: Tensor) -> float | None:
    """In two batches."""
    half = len(logits_NC) // 2
    for rows in (slice(half), slice(half, None)):
        metric.add(outputs_of(logits_NC[rows]), batch_of(label_sets_NC[rows].to(torch.int8)))
    return metric.value()


def drawn(seed: int, *, rows: int, num_classes: int, has_ties: bool) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits_NC = 2 * torch.randn(rows, num_classes, generator=random)
    sets_NC = (torch.rand(rows, num_classes, generator=random) < 0.3).long()
    sets_NC[0, 0] = 1  # so that something is there
    return (logits_NC.round() + 0.5 if has_ties else logits_NC), sets_NC


DRAWN = given(
    seed=st.integers(0, 2**31), rows=st.integers(2, 40), num_classes=st.integers(2, 6), has_ties=st.booleans()
)


@DRAWN
def test_f1_is_that_of_torchmetrics(seed: int, rows: int, num_classes: int, has_ties: bool) -> None:
    logits_NC, sets_NC = drawn(seed, rows=rows, num_classes=num_classes, has_ties=has_ties)

    by_class = multilabel_f1_score(logits_NC.sigmoid(), sets_NC, num_labels=num_classes, average="none")
    is_counted_C = ((logits_NC > 0) | (sets_NC > 0)).any(dim=0)
    micro = multilabel_f1_score(logits_NC.sigmoid(), sets_NC, num_labels=num_classes, average="micro")
    assert measured(MacroF1(CPU), logits_NC, sets_NC) == pytest.approx(by_class[is_counted_C].mean().item(), abs=1e-6)
    assert measured(MicroF1(CPU), logits_NC, sets_NC) == pytest.approx(micro.item(), abs=1e-6)


@DRAWN
def test_mean_average_precision_is_that_of_torchmetrics(seed: int, rows: int, num_classes: int, has_ties: bool) -> None:
    logits_NC, sets_NC = drawn(seed, rows=rows, num_classes=num_classes, has_ties=has_ties)

    there = sets_NC.any(dim=0).nonzero()[:, 0].tolist()
    shares_NC = logits_NC.double().sigmoid()
    by_class = [binary_average_precision(shares_NC[:, each], sets_NC[:, each]).item() for each in there]
    found = measured(MeanAveragePrecision(CPU), logits_NC, sets_NC)
    assert found == pytest.approx(sum(by_class) / len(by_class), abs=1e-6)


def test_the_average_precision_is_that_of_the_definition() -> None:
    scores_N = torch.tensor([0.9, 0.8, 0.8, 0.7, 0.1])
    is_there_N = torch.tensor([True, False, True, False, True])

    # Thresholds .9 (1 of 1), .8 (2 of 3, both at once), .7 (2 of 4), .1 (3 of 5).
    assert average_precision(scores_N, is_there_N) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 5)


def test_rows_without_labels_do_not_count() -> None:
    logits_NC, sets_NC = drawn(0, rows=20, num_classes=3, has_ties=False)
    unknown_NC = sets_NC.clone()
    unknown_NC[::2] = -1

    for metric in (MacroF1, MicroF1, MeanAveragePrecision):
        assert measured(metric(CPU), logits_NC, unknown_NC) == pytest.approx(
            measured(metric(CPU), logits_NC[1::2], sets_NC[1::2])
        )


def test_without_a_label_there_is_no_figure() -> None:
    logits_NC, sets_NC = torch.full((4, 3), -1.0), torch.zeros(4, 3)

    assert measured(MacroF1(CPU), logits_NC, sets_NC) is None
    assert measured(MeanAveragePrecision(CPU), logits_NC, sets_NC) is None
    assert MeanAveragePrecision(CPU).value() is None


@dataclass(frozen=True, kw_only=True)
class TaggedPictures(Pictures):
    label_sets: NDArray[np.int8] | None = None


def test_a_model_is_measured_on_a_source_that_lacks_its_last_classes() -> None:
    sets_NC = (np.random.default_rng(0).random((COUNT, NUM_CLASSES - 2)) < 0.3).astype(np.int8)
    source = TaggedPictures(count=COUNT, class_names=None, label_sets=sets_NC)

    found = measure(source=source)

    predicted_NC, there_NC = dense(STUDENT).numpy() > 0, np.pad(sets_NC, ((0, 0), (0, 2))) > 0
    expected = 2 * (predicted_NC & there_NC).sum() / (predicted_NC.sum() + there_NC.sum())
    assert found.values["micro_f1"] == pytest.approx(expected)
    assert "accuracy" not in found.values
