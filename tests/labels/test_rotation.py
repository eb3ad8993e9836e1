# Shape letters: R vectors, D numbers of a vector.

import math

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from softlab.labels.rotation import rotate, rotate_back

WIDTHS = (1, 2, 3, 7, 64, 65, 100, 127, 576, 960)
EVERY_WIDTH = pytest.mark.parametrize("width", WIDTHS)


def matrix_by_definition(width: int) -> NDArray[np.float64]:
    """Its rows are what the unit vectors become: signs, transform, signs, transform, each as a matrix."""
    size = 2 ** int(math.log2(width))
    hadamard = np.ones((1, 1))
    while len(hadamard) < size:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    first, last = np.eye(width), np.eye(width)
    first[:size, :size] = last[width - size :, width - size :] = hadamard / math.sqrt(size)
    once = np.diag(signs(b"softlab rotation 1", width)) @ first
    return once @ np.diag(signs(b"softlab rotation 2", width)) @ last if size < width else once


def signs(text: bytes, width: int) -> NDArray[np.float64]:
    bits = int.from_bytes(blake3(text).digest(length=(width + 7) // 8), "little")
    return np.array([-1.0 if bits >> place & 1 else 1.0 for place in range(width)])


@EVERY_WIDTH
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_it_is_orthogonal_and_undone(width: int, dtype: torch.dtype, most: float) -> None:
    unit = torch.eye(width, dtype=dtype)

    rotated = rotate(unit)

    assert rotated.dtype == dtype
    assert (rotated @ rotated.T - unit).abs().max() < most
    assert (rotate_back(rotated) - unit).abs().max() < most


@EVERY_WIDTH
def test_it_is_the_matrix_that_the_format_describes(width: int) -> None:
    expected = matrix_by_definition(width)

    found = rotate(torch.eye(width, dtype=torch.float64)).numpy()

    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("width", [64, 127, 576, 600, 768, 960])
def test_no_number_keeps_more_than_a_small_part_of_itself(width: int) -> None:
    """With the same signs twice, a number of 576 would be spread over 9 places."""
    parts = rotate(torch.eye(width, dtype=torch.float64)).abs()

    assert parts.max() < 5 / math.sqrt(width)


@given(st.integers(1, 40), st.integers(1, 140), st.integers(0, 2**32 - 1))
def test_a_vector_gives_the_same_bits_whatever_stands_beside_it(count: int, width: int, seed: int) -> None:
    vectors_RD = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))

    together, back = rotate(vectors_RD), rotate_back(vectors_RD)

    for row in range(count):
        assert torch.equal(rotate(vectors_RD[row : row + 1]), together[row : row + 1])
        assert torch.equal(rotate_back(vectors_RD[row : row + 1]), back[row : row + 1])


def test_its_bits_are_settled() -> None:
    """Of stores that others wrote: sums in another order would change them."""
    vectors_RD = torch.arange(1, 1201, dtype=torch.float32).reshape(2, 600) / 7

    assert blake3(rotate(vectors_RD).numpy().tobytes()).hexdigest()[:16] == "7ffcfc03d804428d"
    assert blake3(rotate_back(vectors_RD).numpy().tobytes()).hexdigest()[:16] == "5991848739cb706d"


def test_what_is_given_stays_as_it_is() -> None:
    vectors_RD = torch.ones(3, 5)

    rotate(vectors_RD)
    rotate_back(vectors_RD)

    assert torch.equal(vectors_RD, torch.ones(3, 5))


def test_no_vectors_are_none() -> None:
    assert rotate(torch.empty(0, 6)).shape == (0, 6)
    assert rotate_back(torch.empty(0, 6)).shape == (0, 6)
