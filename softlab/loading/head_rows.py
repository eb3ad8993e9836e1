"""What one head of a model is compared with: the hard targets and the stored outputs of that head for one batch."""

# Shape letters: B rows in a batch.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from softlab.labels.soft_labels import SoftLabels
from softlab.loading.mixed_targets import MixedTargets
from softlab.loading.stored import Stored


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeadRows:
    """Of B samples, one row each; the same as in a `Batch` of a model with one output."""

    targets_B: Tensor | None = None
    """int64; -1 where unknown."""

    mixed: MixedTargets | None = None
    labels: SoftLabels | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def with_stored(self, stored: Stored) -> "HeadRows":
        """The same with what the head's teacher gave."""
        return replace(self, labels=next(iter(stored.labels), None), features=stored.features)

    def to(self, device: torch.device) -> "HeadRows":
        return HeadRows(
            targets_B=None if self.targets_B is None else self.targets_B.to(device, non_blocking=True),
            mixed=None if self.mixed is None else self.mixed.to(device),
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
            features={name: feature.to(device, non_blocking=True) for name, feature in self.features.items()},
        )

    def pin_memory(self) -> "HeadRows":
        """Targets in page-locked memory."""
        return replace(
            self,
            targets_B=None if self.targets_B is None else self.targets_B.pin_memory(),
            mixed=None if self.mixed is None else self.mixed.pin_memory(),
        )

    def tensors(self) -> Iterator[Tensor]:
        """All that `to` moves."""
        if self.targets_B is not None:
            yield self.targets_B
        if self.mixed is not None:
            yield from (self.mixed.targets_B, self.mixed.weights_B)
        if self.labels is not None:
            yield from self.labels.tensors()
        yield from self.features.values()
