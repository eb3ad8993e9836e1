import pytest
import torch

from softlab.evaluation.metrics.mean import Mean, sum_dtype
from tests.evaluation.pictures import CPU


def test_batches_of_different_size_count_by_their_rows() -> None:
    mean = Mean(CPU)

    mean.add(torch.tensor([1.0, 2.0, 6.0]), rows=3)
    mean.add(torch.tensor([True, False]), rows=torch.tensor(1))

    assert mean.value() == 2.5


def test_without_rows_there_is_no_mean() -> None:
    assert Mean(CPU).value() is None


def test_many_small_values_are_not_lost_in_a_large_sum() -> None:
    """In float32 they would be: 2^24 + 1 is 2^24."""
    mean = Mean(CPU)

    for value in (2.0**24, 1.0, 1.0):
        mean.add(torch.tensor([value]), rows=1)

    assert mean.value() == pytest.approx((2**24 + 2) / 3, rel=1e-15)


def test_sums_are_float32_where_there_is_no_float64() -> None:
    assert sum_dtype(torch.device("mps")) == torch.float32
    assert sum_dtype(CPU) == sum_dtype(torch.device("cuda")) == torch.float64
