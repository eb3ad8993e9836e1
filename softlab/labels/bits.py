"""Sets of classes as bits, eight to a byte: class c is bit c % 8 of byte c // 8."""

# Shape letters: B rows in a batch, C classes, W bytes of a row.

import torch
from torch import Tensor
from torch.nn import functional


def pack_bits(is_in_BC: Tensor) -> Tensor:
    """uint8 [B, W], on the same device; the bits behind the last class are 0."""
    num_rows, num_classes = is_in_BC.shape
    padded_BC = functional.pad(is_in_BC.to(torch.uint8), (0, -num_classes % 8))
    weights = 1 << torch.arange(8, dtype=torch.uint8, device=is_in_BC.device)
    return (padded_BC.view(num_rows, padded_BC.shape[1] // 8, 8) * weights).sum(dim=2, dtype=torch.uint8)


def unpack_bits(bits_BW: Tensor, *, num_classes: int) -> Tensor:
    """bool [B, C]."""
    places = torch.arange(8, dtype=torch.uint8, device=bits_BW.device)
    return (bits_BW[:, :, None] >> places & 1).flatten(start_dim=1)[:, :num_classes].bool()
