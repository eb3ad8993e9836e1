"""Are the hard targets of a user's own batches those of the teacher? Looked at while the first batches are collated."""

# Shape letters: B samples in a batch, N looked at.

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.labels.soft_labels import SoftLabels
from softlab.loading.label_check import LOOKED_AT, note_of_batches, warn_of_labels
from softlab.store.reader import Store

TARGET_NAMES = ("labels", "label", "targets", "target")


class ToldTargets:
    """Collects targets and the teacher's largest class beside them, and compares them once; each process of a loader
    its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._predicted: list[NDArray[np.int64]] = []
        self._targets: list[NDArray[np.int64]] = []
        self.is_done = not store.has_labels or store.labels.units or store.manifest.views.mixing is not None
        """What is mixed, or has several rows, has no one target."""

    def add(self, batch: Any, labels: SoftLabels) -> None:
        """Warns with OddLabels, once there are enough of them."""
        targets_B = targets_of(batch, num_samples=len(labels))
        if self.is_done or targets_B is None or not self._can_be_classes(targets_B):
            self.is_done = True
            return
        self._predicted.append(labels.class_ids_BK[:, 0].numpy().copy())  # a worker gives its memory away
        self._targets.append(targets_B.numpy().copy())
        if sum(map(len, self._targets)) >= min(LOOKED_AT, self.store.num_samples):
            self.is_done = True
            self._compare()

    def _can_be_classes(self, targets_B: Tensor) -> bool:
        """The only integers of a batch may also be indices, or identifiers of any size."""
        return bool(((targets_B >= -1) & (targets_B <= self.store.num_classes)).all())

    def _compare(self) -> None:
        predicted_N, targets_N = np.concatenate(self._predicted), np.concatenate(self._targets)
        warn_of_labels(note_of_batches(predicted_N, targets_N, num_classes=self.store.num_classes))
        self._predicted, self._targets = [], []


def targets_of(batch: Any, *, num_samples: int) -> Tensor | None:
    """int64 [B]: the only such tensor of a tuple, or what a mapping calls its labels or targets."""
    if isinstance(batch, Mapping):
        found = [batch[name] for name in TARGET_NAMES if name in batch]
    else:
        found = list(batch) if isinstance(batch, tuple | list) else []
    able = [each for each in found if isinstance(each, Tensor) and each.dtype == torch.int64]
    able = [each for each in able if each.shape == (num_samples,)]
    return able[0] if len(able) == 1 else None
