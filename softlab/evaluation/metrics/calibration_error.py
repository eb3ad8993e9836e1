"""How far a model's confidence is from how often it is right."""

# Shape letters: B rows in a batch, C classes, M bins.

import torch
from torch import Tensor

NUM_BINS = 15


def calibration_sums(logits_BC: Tensor, *, predicted_B: Tensor, targets_B: Tensor, dtype: torch.dtype) -> Tensor:
    """What `expected_calibration_error` needs of some rows, [M, 3]: in each bin the rows with a known target, how many
    of them are right, and their summed confidence. The sums of two batches are added.

    A row's confidence is its largest softmax probability. Bin m of M holds those in ((m - 1) / M, m / M].
    """
    largest_B = logits_BC.gather(1, predicted_B[:, None])[:, 0]
    confidence_B = (largest_B - logits_BC.logsumexp(dim=1)).exp()
    is_known_B = targets_B >= 0
    facts_B3 = torch.stack([is_known_B, predicted_B == targets_B, is_known_B * confidence_B], dim=1).to(dtype)
    bins_B = (confidence_B * NUM_BINS).ceil().long().clamp(1, NUM_BINS)
    # A product, as adding by index on a GPU would sum in another order each time.
    is_in_MB = bins_B == torch.arange(1, NUM_BINS + 1, device=bins_B.device)[:, None]
    return is_in_MB.to(dtype) @ facts_B3


def accuracy(sums_M3: Tensor) -> float | None:
    """Share of the rows with a known target that are right; None without a row."""
    rows, hits, _ = sums_M3.sum(dim=0).tolist()
    return hits / rows if rows else None


def expected_calibration_error(sums_M3: Tensor) -> float | None:
    """Between 0 and 1: the mean over rows of |accuracy - mean confidence| of the row's bin; None without a row.

    Guo, Pleiss, Sun, Weinberger (2017), equation 3: the sum over M = 15 bins of equal width of
    |B_m| / n * |acc(B_m) - conf(B_m)|.
    """
    rows = sums_M3[:, 0].sum().item()
    gaps_M = (sums_M3[:, 1] - sums_M3[:, 2]).abs()
    return gaps_M.sum().item() / rows if rows else None
