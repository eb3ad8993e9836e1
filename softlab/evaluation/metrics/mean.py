"""A mean over rows that come in batches."""

# Shape letters: B rows in a batch.

import torch
from torch import Tensor


def sum_dtype(device: torch.device) -> torch.dtype:
    """float64, which Apple's GPUs don't have."""
    return torch.float32 if device.type == "mps" else torch.float64


class Mean:
    """Sum and count stay on the device."""

    def __init__(self, device: torch.device) -> None:
        self._dtype = sum_dtype(device)
        self._sum = torch.zeros((), dtype=self._dtype, device=device)
        self._rows = torch.zeros((), dtype=self._dtype, device=device)

    def add(self, values_B: Tensor, *, rows: Tensor | int) -> None:
        """Values of one batch, or their sum as a scalar, over so many rows."""
        self._sum += values_B.to(self._dtype).sum()
        self._rows += rows

    def value(self) -> float | None:
        """None without rows."""
        total, rows = torch.stack([self._sum, self._rows]).tolist()
        return total / rows if rows else None
