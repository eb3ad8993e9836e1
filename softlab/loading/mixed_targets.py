"""The hard targets of views that are mixed of two samples (MixUp, CutMix)."""

# Shape letters: B rows in a batch.

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MixedTargets:
    """The other half of B mixed views."""

    targets_B: Tensor
    """int64, hard targets of the samples they are mixed with; -1 where unknown."""

    weights_B: Tensor
    """float32, the share of each view that is its own sample's; 1 where it is not mixed."""

    def to(self, device: torch.device) -> "MixedTargets":
        return MixedTargets(
            targets_B=self.targets_B.to(device, non_blocking=True),
            weights_B=self.weights_B.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "MixedTargets":
        return MixedTargets(targets_B=self.targets_B.pin_memory(), weights_B=self.weights_B.pin_memory())
