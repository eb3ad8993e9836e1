"""What part of a mean over the rows of a batch some of them are.

Logits over a large vocabulary are computed some rows at a time. The loss of the batch is then the sum of the chunks'
losses, each times its share of what the mean is taken over: the rows, those with a known target, or the weights of
their classes.
"""

# Shape letters: R rows of a batch, C classes.

from collections.abc import Sequence

import torch
from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import DistLoss, StudentLoss
from softlab.labels.losses.hard import UNKNOWN_TARGET
from softlab.labels.on_device import constant
from softlab.loading.batch import Batch


class RowShares:
    """Of the rows of one batch; on its device."""

    def __init__(self, batch: Batch, *, num_rows: int, class_weights: Sequence[float] = ()) -> None:
        self._num_rows, targets_R = num_rows, batch.targets_B
        if targets_R is None:
            return
        self._known_R = (targets_R != UNKNOWN_TARGET).float()
        self._weights_R = self._known_R
        if class_weights:
            weight_C = constant(tuple(class_weights), targets_R.device)
            last = len(weight_C) - 1  # too few weights are refused by cross-entropy itself
            self._weights_R = self._known_R * weight_C[targets_R.clamp(min=0, max=last)]

    def of_all(self, rows: slice) -> float:
        """Of all rows."""
        return len(range(*rows.indices(self._num_rows))) / self._num_rows

    def of_known(self, rows: slice) -> Tensor:
        """Of those with a known target; 0 where none has one."""
        return _share(self._known_R, rows)

    def of_weighted(self, rows: slice) -> Tensor:
        """Of these, by the weights of their classes."""
        return _share(self._weights_R, rows)


def check_adds_up(loss: StudentLoss, batch: Batch, *, new_classes: bool) -> None:
    """Raises InvalidOption or StoreMismatch for what is no mean over rows, each with one class at most: that would need
    the logits of all rows at once."""
    if isinstance(loss, DistLoss):
        raise InvalidOption(
            "loss.name = dist: compares each class over all rows of a batch, and the logits of so many classes are "
            "computed some rows at a time. Choose another `loss.name`, such as kl."
        )
    if new_classes:
        raise InvalidOption(
            "distil.new_classes: is not for a student whose logits are computed some rows at a time. Leave it out."
        )
    if batch.mixed is not None or batch.label_sets_BC is not None:
        raise StoreMismatch(
            "the logits are computed some rows at a time, so each row can have one hard target, but the samples are "
            "mixed of two or may be of several classes. Let the student return logits as a tensor."
        )


def _share(weights_R: Tensor, rows: slice) -> Tensor:
    return weights_R[rows].sum() / weights_R.sum().clamp(min=torch.finfo(weights_R.dtype).tiny)
