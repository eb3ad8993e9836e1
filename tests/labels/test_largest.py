import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.labels.largest import LEAST_ROW, largest

# Shape letters: B rows, C numbers in a row, K numbers found.


@st.composite
def rows(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Of lengths about those where groups begin, with equal numbers, infinite ones and NaN among them."""
    k = draw(st.integers(1, 5))
    length = draw(st.integers(max(k, LEAST_ROW * k - 20), LEAST_ROW * k + 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    rows_BC = torch.randn(draw(st.integers(0, 3)), length, generator=generator) * 10
    if draw(st.booleans()):
        rows_BC = rows_BC.round()
    for value in draw(st.lists(st.sampled_from([math.inf, -math.inf, math.nan]), max_size=3)):
        if rows_BC.numel():
            rows_BC.view(-1)[draw(st.integers(0, rows_BC.numel() - 1))] = value
    if draw(st.booleans()):
        rows_BC[:, draw(st.integers(0, length)) :] = -math.inf
    return rows_BC, k


@given(rows())
def test_the_same_numbers_are_found_as_by_one_search(given_rows: tuple[Tensor, int]) -> None:
    rows_BC, k = given_rows

    values_BK, places_BK = largest(rows_BC, k)

    assert torch.equal(values_BK.nan_to_num(1e9), rows_BC.topk(k, dim=1).values.nan_to_num(1e9))
    assert torch.equal(rows_BC.gather(1, places_BK).nan_to_num(1e9), values_BK.nan_to_num(1e9))
    assert all(len(set(places)) == k for places in places_BK.tolist())


@pytest.mark.parametrize("num_classes", [1000, 1003, 49_152])
def test_a_row_of_which_all_numbers_differ_has_the_same_places(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows_BC = torch.stack([torch.randperm(num_classes, generator=generator) for _ in range(8)]).float()

    values_BK, places_BK = largest(rows_BC, 16)

    expected = rows_BC.topk(16, dim=1)
    assert torch.equal(values_BK, expected.values)
    assert torch.equal(places_BK, expected.indices)
