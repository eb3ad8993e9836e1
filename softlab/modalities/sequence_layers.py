"""What small models of texts and sounds share: what fills a sequence up never changes what they give for it."""

# Shape letters: B sequences in a batch, L places of the longest one of them, M or D numbers a place.

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class MeanOverOwn(nn.Module):
    """The mean of a sequence's states, [B, D], without those of what fills it up."""

    def forward(self, states_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        own_BL1 = own_weights(mask_BL, states_BLD.dtype)
        return (states_BLD * own_BL1).sum(dim=1) / own_BL1.sum(dim=1)


def own_mask(lengths_B: Tensor, *, length: int) -> Tensor:
    """bool [B, L], whether a place is the sequence's own."""
    return torch.arange(length, device=lengths_B.device) < lengths_B[:, None]


def own_weights(mask_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, L, 1]: 1 for a sequence's own places, and 0 for what fills it up."""
    return mask_BL.to(dtype).unsqueeze(2)


def bidirectional(
    kind: type[nn.GRU] | type[nn.LSTM], num_inputs: int, *, width: int, num_layers: int, dropout: float
) -> nn.GRU | nn.LSTM:
    """Half of the width in each direction."""
    between = dropout if num_layers > 1 else 0.0  # torch warns of dropout after a single layer
    return kind(num_inputs, width // 2, num_layers, batch_first=True, bidirectional=True, dropout=between)


def states_of(layers: nn.GRU | nn.LSTM, inputs_BLM: Tensor, mask_BL: Tensor) -> Tensor:
    """States [B, L, D] of each place; zeros where a sequence is filled up."""
    lengths_B = mask_BL.sum(dim=1).cpu()
    packed = pack_padded_sequence(inputs_BLM, lengths_B, batch_first=True, enforce_sorted=False)
    states_BLD, _ = pad_packed_sequence(layers(packed)[0], batch_first=True, total_length=mask_BL.shape[1])
    return states_BLD


class DilatedConvolutions(nn.Module):
    """States of each place, with gaps that double from layer to layer; what fills a sequence up is zero before each."""

    def __init__(self, num_inputs: int, *, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Linear(num_inputs, width)
        self.layers = nn.ModuleList(
            DepthwiseBlock(width, gap=1 << number, dropout=dropout) for number in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, inputs_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        states_BLD, own_BL1 = self.stem(inputs_BLM), own_weights(mask_BL, inputs_BLM.dtype)
        for layer in self.layers:
            states_BLD = layer(states_BLD, own_BL1)
        normalised_BLD: Tensor = self.norm(states_BLD)
        return normalised_BLD


class DepthwiseBlock(nn.Module):
    """Five places of each number, then all numbers of each place, beside an identity."""

    def __init__(self, width: int, *, gap: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.over_time = nn.Conv1d(width, width, 5, padding=2 * gap, dilation=gap, groups=width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BLD: Tensor, own_BL1: Tensor) -> Tensor:
        seen_BLD = self.over_time((self.norm(states_BLD) * own_BL1).transpose(1, 2)).transpose(1, 2)
        changed_BLD: Tensor = states_BLD + self.dropout(self.mlp(seen_BLD))
        return changed_BLD
