from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from softlab.loading.permutation import MAX_SIZE, Permutation

KEYS = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 1000))

# Chi-square with d degrees of freedom is above d + MOST * (2 d) ** 0.5 about once in 10 million times.
MOST = 6.0


def drawn(size: int, *, seed: int = 0, epoch: int = 0) -> Permutation:
    return Permutation.drawn(size, key=(seed, epoch), stream=3)


@given(size=st.integers(1, 3000), key=KEYS)
def test_every_number_comes_once(size: int, key: tuple[int, int]) -> None:
    found = Permutation.drawn(size, key=key, stream=3).at(0, size)

    assert sorted(found.tolist()) == list(range(size))


@pytest.mark.parametrize("size", [2**16 - 1, 2**16, 2**16 + 1, 2**20 - 3, 1000**2, 1000**2 + 1, 999 * 1000])
def test_every_number_comes_once_beside_powers_and_squares(size: int) -> None:
    found = drawn(size).at(0, size)

    assert np.array_equal(np.sort(found), np.arange(size))


@given(size=st.integers(1, MAX_SIZE), key=KEYS, data=st.data())
def test_of_any_size_different_places_hold_different_numbers_below_it(
    size: int, key: tuple[int, int], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, size - 1))
    found = Permutation.drawn(size, key=key, stream=3).at(start, min(start + 100, size))

    assert len(set(found.tolist())) == len(found)
    assert 0 <= found.min() <= found.max() < size


@given(size=st.integers(1, 10**10), data=st.data())
def test_a_stretch_is_what_stands_there_in_a_longer_one(size: int, data: st.DataObject) -> None:
    permutation = drawn(size)
    start = data.draw(st.integers(0, size - 1))
    stop = min(start + data.draw(st.integers(0, 200)), size)
    middle = data.draw(st.integers(start, stop))

    whole = permutation.at(start, stop).tolist()
    assert permutation.at(start, middle).tolist() + permutation.at(middle, stop).tolist() == whole


def test_the_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    # A run that was begun by an earlier release must go on in the same order.
    found = drawn(10**9, seed=3, epoch=2).at(5 * 10**8, 5 * 10**8 + 4)

    assert found.tolist() == [
        822094819,
        786127833,
        322826656,
        148492428,
    ]


def test_another_seed_or_epoch_gives_another_order() -> None:
    orders = {tuple(drawn(10**9, seed=seed, epoch=epoch).at(0, 100)) for seed in range(3) for epoch in range(3)}

    assert len(orders) == 9


def chi_square(counts: NDArray[Any]) -> float:
    """In standard deviations from what it is of numbers that are drawn."""
    expected, degrees = counts.mean(), counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / (2 * degrees) ** 0.5)


@pytest.mark.parametrize("size", [10**9, 2**30, 3 * 10**8 + 1])
@pytest.mark.parametrize("distance", [1, 2, 1024, 31_623, 65_536])
def test_two_places_at_a_distance_hold_numbers_that_have_nothing_to_do_with_each_other(
    size: int, distance: int
) -> None:
    """Each pair falls into one of 32 x 32 cells, by where its numbers lie."""
    found = drawn(size, seed=distance).at(0, (1 << 18) + distance)

    cells = (found * 32 // size)[:-distance] * 32 + (found * 32 // size)[distance:]
    assert abs(chi_square(np.bincount(cells, minlength=1024))) < MOST


@pytest.mark.parametrize("shift", [0, 8, 15, 20])
def test_places_and_their_numbers_have_nothing_to_do_with_each_other(shift: int) -> None:
    """Each place falls into one of 32 x 32 cells, by five bits of its own and five of its number."""
    size = 10**9
    permutation = drawn(size, seed=shift)
    starts = np.random.default_rng(shift).integers(0, size - 256, size=1024).tolist()
    places = np.concatenate([np.arange(start, start + 256) for start in starts])
    found = np.concatenate([permutation.at(start, start + 256) for start in starts])

    cells = (places >> shift) % 32 * 32 + (found >> shift) % 32
    counts = np.bincount(cells, minlength=1024).reshape(32, 32)
    expected = np.broadcast_to(counts.sum(axis=1, keepdims=True) / 32, counts.shape)
    degrees = 32 * 31
    deviation = ((counts - expected) ** 2 / expected).sum() - degrees
    assert abs(deviation) < MOST * (2 * degrees) ** 0.5


def test_the_numbers_of_two_epochs_have_nothing_to_do_with_each_other() -> None:
    size, count = 10**9, 1 << 18
    cells = drawn(size, epoch=0).at(0, count) * 32 // size * 32 + drawn(size, epoch=1).at(0, count) * 32 // size

    assert abs(chi_square(np.bincount(cells, minlength=1024))) < MOST


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_of_few_things_every_order_comes_about_as_often(size: int) -> None:
    found = [tuple(drawn(size, seed=seed).at(0, size).tolist()) for seed in range(1500)]

    counts = np.array([found.count(order) for order in permutations(range(size))])
    assert chi_square(counts) < MOST


def test_as_many_numbers_stay_in_their_place_as_in_a_random_order() -> None:
    """One in the mean, whatever the size."""
    fixed = [int((drawn(5000, seed=seed).at(0, 5000) == np.arange(5000)).sum()) for seed in range(400)]

    assert 0.75 < np.mean(fixed) < 1.25
