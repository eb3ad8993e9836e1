import numpy as np
import pytest
import torch
from torch import Tensor

from softlab.labels.draws import uniforms

# Shape letters: R rows.


def draw(seed: int = 0, *, view: int = 0, samples: int = 1, units: int = 1) -> Tensor:
    grid = torch.cartesian_prod(torch.arange(samples), torch.arange(units)).view(-1, 2)
    return uniforms(seed, view=view, samples_R=grid[:, 0], units_R=grid[:, 1])


def test_they_are_the_same_on_any_machine() -> None:
    found_R2 = uniforms(7, view=1, samples_R=torch.tensor([0, 2**40]), units_R=torch.tensor([3, 0]))

    assert found_R2.dtype == torch.float64
    assert found_R2.tolist() == EXPECTED


def test_a_row_has_its_numbers_whatever_is_drawn_beside_it() -> None:
    whole_R2 = draw(samples=20, units=5)

    alone_R2 = uniforms(0, view=0, samples_R=torch.tensor([13, 2]), units_R=torch.tensor([4, 1]))

    assert alone_R2.equal(whole_R2[[13 * 5 + 4, 2 * 5 + 1]])


@pytest.mark.parametrize(
    "other",
    [draw(1), draw(-1), draw(view=1), draw(samples=2)[1:], draw(units=2)[1:]],
    ids=["seed", "negative seed", "view", "sample", "unit"],
)
def test_each_of_what_they_are_for_changes_both(other: Tensor) -> None:
    assert (draw() != other).all()


def test_they_are_uniform_and_know_nothing_of_each_other() -> None:
    """A mean that is off by 0.002, or a correlation of 0.006, would be noticed: 5 standard errors."""
    found_R2 = draw(samples=1000, units=600).numpy()
    sequence_R = found_R2[:, 0]

    assert found_R2.min() >= 0
    assert found_R2.max() < 1
    assert np.abs(found_R2.mean(axis=0) - 0.5).max() < 0.002
    counts = np.histogram(sequence_R, bins=100, range=(0, 1))[0]
    assert ((counts - 6000) ** 2 / 6000).sum() < 99 + 5 * (2 * 99) ** 0.5
    neighbours = [(sequence_R[:-1], sequence_R[1:]), (sequence_R[:-600], sequence_R[600:]), tuple(found_R2.T)]
    neighbours.append((sequence_R, draw(1, samples=1000, units=600).numpy()[:, 0]))
    assert max(abs(np.corrcoef(*pair)[0, 1]) for pair in neighbours) < 0.0065


def test_no_rows_have_none() -> None:
    assert draw(samples=0).shape == (0, 2)


EXPECTED = [[0.0261281589445862, 0.710723333656329], [0.9706503380412803, 0.32514659883004216]]
"""Computed with Python's own integers."""
