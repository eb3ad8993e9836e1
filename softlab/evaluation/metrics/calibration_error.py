"""How far a model's confidence is from how often it is right."""

# Shape letters: B rows in a batch, C classes, M bins.

import torch
from torch import Tensor

from softlab.evaluation.metrics.mean import sum_dtype
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch

NUM_BINS = 15


class CalibrationError:
    """Between 0 and 1: the mean over the rows with a known target of |accuracy - mean confidence| of the row's bin.

    Guo, Pleiss, Sun, Weinberger (2017), equation 3, the expected calibration error: the sum over M = 15 bins of equal
    width of |B_m| / n * |acc(B_m) - conf(B_m)|.
    """

    name, label, column = "calibration_error", "calibration error", "ECE"
    unit, higher_is_better = SHARE, False
    needs: frozenset[Need] = frozenset({"targets", "logits", "softmax"})

    def __init__(self, device: torch.device) -> None:
        self._sums_M3 = torch.zeros(NUM_BINS, 3, dtype=sum_dtype(device), device=device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.targets_B is not None
        self._sums_M3 += calibration_sums(outputs, batch.targets_B, dtype=self._sums_M3.dtype)

    def value(self) -> float | None:
        return expected_calibration_error(self._sums_M3.cpu())


def calibration_sums(outputs: Outputs, targets_B: Tensor, *, dtype: torch.dtype) -> Tensor:
    """What `expected_calibration_error` needs of some rows, [M, 3]: in each bin the rows with a known target, how many
    of them are right, and their summed confidence. The sums of two batches are added.

    A row's confidence is its largest softmax probability. Bin m of M holds those in ((m - 1) / M, m / M].
    """
    logits_BC, predicted_B = outputs.logits_BC, outputs.predicted_B
    largest_B = logits_BC.gather(1, predicted_B[:, None])[:, 0]
    confidence_B = (largest_B - logits_BC.logsumexp(dim=1)).exp()
    is_known_B = targets_B >= 0
    facts_B3 = torch.stack([is_known_B, predicted_B == targets_B, is_known_B * confidence_B], dim=1).to(dtype)
    bins_B = (confidence_B * NUM_BINS).ceil().long().clamp(1, NUM_BINS)
    # A product, as adding by index on a GPU would sum in another order each time.
    is_in_MB = bins_B == torch.arange(1, NUM_BINS + 1, device=bins_B.device)[:, None]
    return is_in_MB.to(dtype) @ facts_B3


def expected_calibration_error(sums_M3: Tensor) -> float | None:
    """From the sums of all rows; None without a row."""
    rows = sums_M3[:, 0].sum().item()
    gaps_M = (sums_M3[:, 1] - sums_M3[:, 2]).abs()
    return gaps_M.sum().item() / rows if rows else None
