"""Layers that small models of texts and sounds share."""

import pytest
import torch
from torch import nn

from softlab.modalities.sequence_layers import DilatedConvolutions, MeanOverOwn, bidirectional, own_mask, states_of

LENGTHS_B = torch.tensor([3, 5])


def test_a_mask_has_the_own_places_of_each_sequence() -> None:
    assert own_mask(LENGTHS_B, length=5).long().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_a_mean_leaves_out_what_fills_a_sequence_up() -> None:
    states_BLD = torch.arange(20.0).reshape(2, 5, 2)

    assert MeanOverOwn()(states_BLD, own_mask(LENGTHS_B, length=5)).tolist() == [[2.0, 3.0], [14.0, 15.0]]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_states_of_a_sequence_do_not_depend_on_what_fills_it_up(kind: type[nn.GRU] | type[nn.LSTM]) -> None:
    layers = bidirectional(kind, 4, width=6, num_layers=2, dropout=0.0)
    inputs_BLM = torch.randn(2, 5, 4)

    states_BLD = states_of(layers, inputs_BLM, own_mask(LENGTHS_B, length=5))

    assert not states_BLD[0, 3:].any()
    torch.testing.assert_close(states_BLD[:1, :3], layers(inputs_BLM[:1, :3])[0])


def test_convolutions_see_zeros_where_a_sequence_is_filled_up() -> None:
    layers = DilatedConvolutions(4, width=6, num_layers=3, dropout=0.0)
    inputs_BLM = torch.randn(2, 5, 4)

    states_BLD = layers(inputs_BLM, own_mask(LENGTHS_B, length=5))

    alone_BLD = layers(inputs_BLM[:1, :3], own_mask(LENGTHS_B[:1], length=3))
    torch.testing.assert_close(states_BLD[:1, :3], alone_BLD)
