import math

import pytest
import torch

from softlab.evaluation.metrics.perplexity import Perplexity
from tests.evaluation.pictures import CPU, outputs_of
from tests.student.lazy import NUM_CLASSES, NUM_ROWS, rows_batch

LOGITS_BC = torch.randn(NUM_ROWS, NUM_CLASSES, generator=torch.Generator().manual_seed(4))


def test_it_is_the_exp_of_the_mean_cross_entropy_of_known_tokens() -> None:
    batch, metric = rows_batch(), Perplexity(CPU)
    assert batch.targets_B is not None

    for rows in (slice(0, 4), slice(4, 11)):
        metric.add(outputs_of(LOGITS_BC[rows]), batch.with_rows(rows))

    log_q_B = LOGITS_BC.double().log_softmax(dim=1).gather(1, batch.targets_B.clamp(min=0)[:, None])[:, 0]
    assert metric.value() == pytest.approx(math.exp(-log_q_B[batch.targets_B >= 0].mean()), rel=1e-6)


def test_a_model_that_tells_nothing_is_as_unsure_as_among_all_classes() -> None:
    metric = Perplexity(CPU)

    metric.add(outputs_of(torch.zeros(NUM_ROWS, NUM_CLASSES)), rows_batch())

    assert metric.value() == pytest.approx(NUM_CLASSES)


def test_without_tokens_there_is_none_and_beyond_all_numbers_it_is_infinite() -> None:
    metric = Perplexity(CPU)
    assert metric.value() is None

    metric.add(outputs_of(torch.randn(NUM_ROWS, NUM_CLASSES) * 1e5), rows_batch())

    assert metric.value() == math.inf
