"""The epoch of a training run, the same for all worker processes, also for those that were started before it began."""

import warnings
from typing import Any

import torch

from softlab.errors import EpochNotSet, InvalidOption

EPOCH, IS_SET, HAS_WARNED = range(3)


class SharedEpoch:
    """A number in shared memory. Workers of a loader get it with their data set and see each change of it; a copy
    elsewhere is a number of its own."""

    def __init__(self) -> None:
        self._state = torch.zeros(3, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._state = state["_state"].share_memory_()  # what came by value is not shared, and workers may be forked

    @property
    def value(self) -> int:
        return int(self._state[EPOCH])

    def set(self, epoch: int) -> None:
        """Raises InvalidOption for a negative one."""
        if epoch < 0:
            raise InvalidOption(f"set_epoch: {epoch} is no epoch. Count from 0.")
        self._state[EPOCH], self._state[IS_SET] = epoch, 1

    def warn_unless_set(self, *, where: str, num_views: int) -> None:
        """Once, in whichever process notices first."""
        if self._state[IS_SET] or self._state[HAS_WARNED]:
            return
        self._state[HAS_WARNED] = 1
        warnings.warn(
            f"{where}: has {num_views:,} views, and no epoch was set, so that view 0 is shown again and again. Call "
            f"set_epoch(epoch) of the labels before each epoch.",
            EpochNotSet,
            stacklevel=2,
        )
