# Shape letters: R rows, V vectors, D numbers of a vector, J outliers.

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from softlab.labels.coding import as_tensor
from softlab.labels.rotation import rotate
from softlab.labels.values_coding import decode_values, encode_values

LARGEST = float(np.finfo(np.float32).max)
LOST = 1e-31
"""Vectors that have nothing of this size, outliers aside, are stored as zeros."""

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

vectors_of_any_size: st.SearchStrategy[Floats] = st.tuples(st.integers(0, 4), st.integers(1, 200)).flatmap(
    lambda shape: arrays_of.arrays(
        np.float32,
        shape,
        elements=st.floats(-LARGEST / 16, LARGEST / 16, width=32) | st.floats(-8, 8, width=32),
        fill=st.sampled_from([0.0, 1.0, -300.0, 1e-40]),
    )
)


def encode(values: Floats) -> Arrays:
    return dict(encode_values(torch.from_numpy(values), "int8_rotated"))


def decode(arrays: Arrays) -> Floats:
    decoded: Floats = decode_values({name: as_tensor(array) for name, array in arrays.items()}).numpy()
    return decoded


def hidden_states(*, count: int, width: int, seed: int = 0) -> Floats:
    """Some numbers are always far larger than the others, and one of them now and then."""
    random = np.random.default_rng(seed)
    size_D = np.ones(width)
    size_D[random.choice(width, 4, replace=False)] = (80, 40, 20, 20)
    states = random.normal(size=(count, width)) * size_D
    states[::7, random.integers(width)] = 1000
    return states.astype(np.float32)


@given(vectors_of_any_size)
def test_a_vector_is_off_by_at_most_half_a_step_in_each_direction(values: Floats) -> None:
    """All its numbers together, as a rotation keeps lengths; float32 rounds sums of large numbers besides."""
    arrays = encode(values)

    error_R = np.linalg.norm(decode(arrays).astype(np.float64) - values, axis=1)
    step_R = arrays["scale"].astype(np.float64)
    rounding_R = 1e-6 * np.linalg.norm(values.astype(np.float64), axis=1)
    width = values.shape[1]
    assert (error_R <= np.sqrt(width) * (step_R / 2 + LOST) + rounding_R).all()


@given(vectors_of_any_size)
def test_outliers_are_the_largest_numbers_and_the_rest_has_127_steps(values: Floats) -> None:
    arrays = encode(values)

    count, width = -(-values.shape[1] // 64), values.shape[1]
    largest_RJ = np.sort(np.abs(values), axis=1)[:, width - count :]
    chosen_RJ = np.take_along_axis(values, arrays["outlier_ids"].astype(np.int64), axis=1)
    np.testing.assert_array_equal(np.sort(np.abs(chosen_RJ), axis=1), largest_RJ)
    assert (np.diff(arrays["outlier_ids"].astype(int), axis=1) > 0).all(), "ascending, none twice"
    assert (np.abs(arrays["outliers"]) <= np.abs(chosen_RJ)).all()
    assert (np.abs(chosen_RJ - arrays["outliers"]) <= np.abs(chosen_RJ) * 2.0**-7 + 1e-40).all()
    most_R = np.abs(arrays["values"].astype(int)).max(axis=1, initial=0)
    assert (most_R == np.where(arrays["scale"] == 0, 0, 127)).all()


def test_of_equal_numbers_the_first_are_outliers() -> None:
    values = np.array([[1.0] * 130, [*([0.0] * 70), -2.0, *([1.0] * 59)]], dtype=np.float32)

    assert encode(values)["outlier_ids"].tolist() == [[0, 1, 2], [70, 71, 72]]


@given(vectors_of_any_size)
def test_a_row_is_encoded_and_decoded_alike_whatever_stands_beside_it(values: Floats) -> None:
    together = encode(values)

    decoded = decode(together)
    for row in range(len(values)):
        alone = encode(values[row : row + 1])
        for name, array in alone.items():
            np.testing.assert_array_equal(array, together[name][row : row + 1], strict=True)
        np.testing.assert_array_equal(decode(alone), decoded[row : row + 1], strict=True)


def test_each_vector_of_a_row_is_coded_by_itself() -> None:
    vectors = hidden_states(count=24, width=96)

    arrays, apart = encode(vectors.reshape(4, 3, 2, 96)), encode(vectors)

    for name, array in apart.items():
        np.testing.assert_array_equal(arrays[name].reshape(array.shape), array, strict=True)
    np.testing.assert_array_equal(decode(arrays).reshape(24, 96), decode(apart), strict=True)


def test_a_row_may_be_one_number() -> None:
    """Its outlier is all but the last bits of it."""
    values = np.array([1.23456, -7.0, 0.0, 3e-5], dtype=np.float32)

    arrays = encode(values)

    assert {name: array.shape for name, array in arrays.items()} == {
        "values": (4,),
        "scale": (4,),
        "outliers": (4, 1),
        "outlier_ids": (4, 1),
    }
    np.testing.assert_allclose(decode(arrays), values, rtol=1e-4)


def test_what_was_decoded_loses_no_more_when_it_is_encoded_again() -> None:
    """The bytes may be others: rounding changes which numbers are the largest."""
    values = hidden_states(count=200, width=576)
    once = decode(encode(values))

    arrays = encode(once)

    again = decode(arrays)
    error_R = np.linalg.norm(again - once, axis=1)
    assert (error_R <= np.sqrt(576) * arrays["scale"] / 2 * 1.001).all()
    first, both = np.linalg.norm(once - values, axis=1).mean(), np.linalg.norm(again - values, axis=1).mean()
    assert both < 1.5 * first, "two independent errors of one size"


def test_hidden_states_are_eight_times_as_exact_as_in_int8() -> None:
    values = hidden_states(count=200, width=576)
    plain = decode(dict(encode_values(torch.from_numpy(values), "int8")))

    rotated = decode(encode(values))

    common = np.abs(values).max(axis=0) < 10
    error = [np.abs(found - values)[:, common].mean() for found in (plain, rotated)]
    assert error[0] > 8 * error[1]


def test_places_beyond_int16_are_read() -> None:
    """They come as signed integers."""
    values = np.zeros((2, 65_536), dtype=np.float32)
    values[0, 65_535], values[1, 40_000] = 100.0, -3.0

    arrays = encode(values)

    assert arrays["outlier_ids"].dtype == np.uint16
    decoded = decode(arrays)
    np.testing.assert_allclose(decoded, values, atol=1e-6)


def test_wider_vectors_have_wider_places() -> None:
    values = np.zeros((1, 65_537), dtype=np.float32)
    values[0, -1] = 2.0

    arrays = encode(values)

    assert arrays["outlier_ids"].dtype == np.uint32
    np.testing.assert_allclose(decode(arrays), values, atol=1e-6)


def test_steps_are_those_of_what_is_rotated() -> None:
    values = hidden_states(count=3, width=128)

    arrays = encode(values)

    rest = values.astype(np.float64)
    ids_RJ = arrays["outlier_ids"].astype(np.int64)
    np.put_along_axis(rest, ids_RJ, np.take_along_axis(rest, ids_RJ, axis=1) - arrays["outliers"], axis=1)
    rotated = rotate(torch.from_numpy(rest)).numpy()
    assert np.abs(arrays["values"] * arrays["scale"][:, None] - rotated).max() <= arrays["scale"].max() * 0.5001
    np.testing.assert_allclose(arrays["scale"], np.abs(rotated).max(axis=1) / 127, rtol=2.0**-11)


@pytest.mark.gpu
def test_another_device_decodes_to_the_same_bits() -> None:
    arrays = encode(hidden_states(count=1000, width=576))

    there = decode_values({name: as_tensor(array).cuda() for name, array in arrays.items()})

    np.testing.assert_array_equal(there.cpu().numpy(), decode(arrays), strict=True)
