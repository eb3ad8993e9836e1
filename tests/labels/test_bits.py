"""Sets of classes as bits."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from softlab.labels.bits import pack_bits, unpack_bits


@given(num_rows=st.integers(0, 5), num_classes=st.integers(1, 40), seed=st.integers(0, 100))
def test_bits_are_those_of_numpy_and_come_back(num_rows: int, num_classes: int, seed: int) -> None:
    is_in_BC = torch.rand(num_rows, num_classes, generator=torch.Generator().manual_seed(seed)) < 0.5

    bits_BW = pack_bits(is_in_BC)

    assert np.array_equal(bits_BW.numpy(), np.packbits(is_in_BC.numpy(), axis=1, bitorder="little"))
    assert unpack_bits(bits_BW, num_classes=num_classes).equal(is_in_BC)
