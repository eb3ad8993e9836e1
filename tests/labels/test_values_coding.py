# Shape letters: R rows, D features.

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray
from torch import Tensor

from softlab.labels.coding import as_tensor
from softlab.labels.values_coding import ValuesCoding, arrays_of_values, decode_values, dtype_before, encode_values

CODINGS: tuple[ValuesCoding, ...] = ("float32", "float16", "int8", "int8_rotated")
LARGEST, SMALLEST_NORMAL = float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_normal)
LOST = 127 * SMALLEST_NORMAL
"""Rows that have nothing of this size are stored as zeros."""

Floats = NDArray[np.float32]

row_shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)
values_of_any_size: st.SearchStrategy[Floats] = st.tuples(st.integers(0, 4), row_shapes).flatmap(
    lambda rows_and_shape: arrays_of.arrays(
        np.float32,
        (rows_and_shape[0], *rows_and_shape[1]),
        elements=st.floats(-LARGEST, LARGEST, width=32) | st.floats(-8, 8, width=32),
        fill=st.sampled_from([0.0, 1.0, -LARGEST, 1e-40]),
    )
)


def decode(arrays: dict[str, NDArray[np.generic]]) -> Tensor:
    return decode_values({name: as_tensor(array) for name, array in arrays.items()})


def round_trip(values: Floats, coding: ValuesCoding = "int8") -> Floats:
    decoded: Floats = decode(encode_values(torch.from_numpy(values).to(dtype_before(coding)), coding)).numpy()
    return decoded


def by_row(values: Floats) -> Floats:
    return values.reshape(len(values), int(np.prod(values.shape[1:])))


@given(values_of_any_size)
def test_int8_is_off_by_at_most_half_a_step_of_the_rows_scale(values: Floats) -> None:
    arrays = encode_values(torch.from_numpy(values), "int8")

    error = np.abs(by_row(decode(arrays).numpy()).astype(np.float64) - by_row(values).astype(np.float64))
    is_zero_R = arrays["scale"] == 0
    assert (error <= np.where(is_zero_R, LOST, arrays["scale"].astype(np.float64) / 2)[:, None]).all()
    assert (np.abs(by_row(values)[is_zero_R]) < LOST).all()


@given(values_of_any_size)
def test_the_largest_value_of_a_row_has_127_steps(values: Floats) -> None:
    arrays = encode_values(torch.from_numpy(values), "int8")

    steps_RD, largest_R = by_row(arrays["values"]).astype(int), np.abs(by_row(values)).max(axis=1, initial=0)
    is_zero_R = arrays["scale"] == 0
    assert (np.abs(steps_RD).max(axis=1, initial=0) == np.where(is_zero_R, 0, 127)).all()
    assert (largest_R[~is_zero_R] / 127 >= arrays["scale"][~is_zero_R] * (1 - 1e-7)).all()
    assert (largest_R[~is_zero_R] / 127 <= arrays["scale"][~is_zero_R] * (1 + 2.0**-11)).all()


@given(values_of_any_size)
def test_decoded_values_are_encoded_to_the_same_bytes(values: Floats) -> None:
    once = encode_values(torch.from_numpy(values), "int8")

    again = encode_values(decode(once), "int8")

    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in once.items()
    }


@given(values_of_any_size)
def test_a_negative_row_has_the_negative_steps_of_the_same_scale(values: Floats) -> None:
    arrays, negative = encode_values(torch.from_numpy(values), "int8"), encode_values(torch.from_numpy(-values), "int8")

    np.testing.assert_array_equal(negative["values"], -arrays["values"], strict=True)
    np.testing.assert_array_equal(negative["scale"], arrays["scale"], strict=True)


@given(values_of_any_size)
def test_a_row_is_encoded_alike_whatever_stands_beside_it(values: Floats) -> None:
    together = encode_values(torch.from_numpy(values), "int8")

    for row in range(len(values)):
        alone = encode_values(torch.from_numpy(values[row : row + 1]), "int8")
        for name, array in alone.items():
            np.testing.assert_array_equal(array, together[name][row : row + 1], strict=True)


@given(values_of_any_size)
def test_what_is_decoded_is_the_plain_product_in_float32(values: Floats) -> None:
    """Exact, so that a reader in float64 sees the very same numbers."""
    arrays = encode_values(torch.from_numpy(values), "int8")

    product = by_row(arrays["values"]).astype(np.float64) * arrays["scale"].astype(np.float64)[:, None]
    np.testing.assert_array_equal(by_row(decode(arrays).numpy()).astype(np.float64), product)


def test_rows_of_zeros_are_exact_and_have_no_scale() -> None:
    values = torch.tensor([[0.0, -0.0, 0.0], [1.0, 0.0, -2.0]])

    arrays = encode_values(values, "int8")

    assert arrays["scale"].tolist() == [0.0, 2 / 127 // 2**-17 * 2**-17]
    assert arrays["values"].tolist() == [[0, 0, 0], [64, 0, -127]]
    assert decode(arrays)[0].tolist() == [0.0, 0.0, 0.0]


def test_every_number_of_float32_has_room() -> None:
    values = np.array([[LARGEST, -LARGEST], [LOST, LOST / 2], [1e-45, 0]], dtype=np.float32)

    decoded = round_trip(values)

    np.testing.assert_allclose(decoded[:2], values[:2], rtol=1e-2)
    assert decoded[2].tolist() == [0, 0]


@given(values_of_any_size)
def test_float32_is_exact_to_the_bit(values: Floats) -> None:
    assert round_trip(values, "float32").tobytes() == values.tobytes()


@given(values_of_any_size)
def test_float16_rounds_once(values: Floats) -> None:
    expected = torch.from_numpy(values).half().float().numpy()

    np.testing.assert_array_equal(round_trip(values, "float16"), expected, strict=True)


@pytest.mark.parametrize("coding", CODINGS)
@given(values=values_of_any_size)
def test_arrays_are_those_that_the_coding_promises(coding: ValuesCoding, values: Floats) -> None:
    arrays = encode_values(torch.from_numpy(values).to(dtype_before(coding)), coding)

    found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    promised = arrays_of_values(coding, values.shape[1:])
    assert found == {name: (dtype, (len(values), *shape)) for name, (dtype, shape) in promised.items()}


@pytest.mark.parametrize("coding", CODINGS)
def test_arrays_are_decoded_wherever_they_lie(coding: ValuesCoding) -> None:
    """Rows of a row cache have other fields between them; what is decoded has not."""
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype_before(coding))
    arrays = encode_values(values, coding)
    apart = {name: np.repeat(array, 2, axis=0)[::2] for name, array in arrays.items()}

    decoded = decode(apart)

    assert decoded.is_contiguous()
    assert torch.equal(decoded, decode(arrays))
