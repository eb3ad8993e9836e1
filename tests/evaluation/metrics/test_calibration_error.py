# Shape letters: B rows in a batch, C classes, M bins.

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.evaluation.metrics.calibration_error import NUM_BINS, calibration_sums, expected_calibration_error
from tests.evaluation.pictures import STUDENT, TARGETS_N, dense, measure, outputs_of


def sums(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    return calibration_sums(outputs_of(logits_BC), targets_B, dtype=torch.float64)


def brute_force(confidences: list[float], hits: list[bool]) -> float:
    """Guo et al. (2017), equations 1 to 3, bin by bin."""
    error = 0.0
    for number in range(1, 16):
        inside = [at for at, value in enumerate(confidences) if (number - 1) / 15 < value <= number / 15]
        if inside:
            share_right = sum(hits[at] for at in inside) / len(inside)
            confidence = sum(confidences[at] for at in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(share_right - confidence)
    return error


def two_classes(confidence: float) -> list[float]:
    """Logits whose largest softmax probability, of class 0, is this."""
    return [float(np.log(confidence / (1 - confidence))), 0.0]


@given(
    seed=st.integers(0, 2**31), rows=st.integers(1, 60), num_classes=st.integers(2, 12), scale=st.sampled_from([0.1, 3])
)
def test_the_error_is_that_of_the_definition(seed: int, rows: int, num_classes: int, scale: float) -> None:
    random = torch.Generator().manual_seed(seed)
    logits_BC = scale * torch.randn(rows, num_classes, generator=random)
    targets_B = torch.randint(num_classes, (rows,), generator=random)

    found = expected_calibration_error(sums(logits_BC, targets_B))

    confidences, predicted_B = logits_BC.double().softmax(dim=1).max(dim=1)
    expected = brute_force(confidences.tolist(), (predicted_B == targets_B).tolist())
    assert found == pytest.approx(expected, abs=1e-6)


def test_right_as_often_as_it_is_sure_is_no_error() -> None:
    logits_BC = torch.tensor([two_classes(0.75)] * 4)

    found = expected_calibration_error(sums(logits_BC, torch.tensor([0, 0, 0, 1])))

    assert found == pytest.approx(0, abs=1e-7)


def test_sure_and_always_wrong_is_the_largest_error() -> None:
    logits_BC = torch.tensor([[100.0, 0.0], [0.0, 100.0]])

    assert expected_calibration_error(sums(logits_BC, torch.tensor([1, 0]))) == 1


def test_too_sure_in_one_bin_does_not_make_up_for_too_modest_in_another() -> None:
    """Both sum to as many hits as confidence; only inside a bin they may cancel."""
    logits_BC = torch.tensor([two_classes(0.9), two_classes(0.6)])
    targets_B = torch.tensor([1, 0])

    found = expected_calibration_error(sums(logits_BC, targets_B))

    assert found == pytest.approx((0.9 + 0.4) / 2, abs=1e-6)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    """Three equal logits: a confidence of 1/3, the upper edge of bin 5."""
    found_M3 = sums(torch.zeros(1, 3), torch.tensor([0]))

    assert found_M3[:, 0].nonzero().flatten().tolist() == [4]


def test_confidence_one_is_in_the_last_bin() -> None:
    found_M3 = sums(torch.tensor([[500.0, 0.0]]), torch.tensor([0]))

    assert found_M3[:, 0].nonzero().flatten().tolist() == [NUM_BINS - 1]


def test_rows_of_unknown_target_count_for_nothing() -> None:
    logits_BC = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    targets_B = torch.tensor([0, -1, 2, -1, 3, 1, -1, 0])
    is_known_B = targets_B >= 0

    found_M3 = sums(logits_BC, targets_B)

    torch.testing.assert_close(found_M3, sums(logits_BC[is_known_B], targets_B[is_known_B]))


def test_sums_of_two_batches_are_added() -> None:
    logits_BC = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    targets_B = torch.randint(4, (20,), generator=torch.Generator().manual_seed(1))

    added_M3 = sums(logits_BC[:7], targets_B[:7]) + sums(logits_BC[7:], targets_B[7:])

    torch.testing.assert_close(added_M3, sums(logits_BC, targets_B))


def test_without_a_known_target_there_is_no_figure() -> None:
    none_M3 = sums(torch.randn(3, 4), torch.full((3,), -1))

    assert expected_calibration_error(none_M3) is None


def test_logits_that_are_no_numbers_are_counted_without_an_accident() -> None:
    found_M3 = sums(torch.full((2, 3), torch.nan), torch.tensor([0, 1]))

    assert found_M3[:, 0].sum() == 2


def test_it_is_over_all_batches_and_the_rows_whose_target_is_known() -> None:
    found = measure()

    confidence_N, predicted_N = (values.numpy() for values in dense(STUDENT).softmax(dim=1).max(dim=1))
    known_N, bins_N = TARGETS_N >= 0, np.ceil(15 * confidence_N)
    gaps = [((predicted_N == TARGETS_N) - confidence_N)[known_N & (bins_N == number)] for number in range(1, 16)]
    expected = sum(abs(gap.sum()) for gap in gaps) / known_N.sum()
    assert found.values["calibration_error"] == pytest.approx(expected, abs=1e-6)
