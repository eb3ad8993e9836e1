"""The loss of a student while it trains, without waiting for its device."""

import time

import torch
from torch import Tensor

SMOOTHING = 0.1
"""Weight of the newest loss in the mean of the recent ones."""

COPY_EVERY_S = 0.25
"""From a GPU: a copy and its event cost about as much as a small kernel."""


class LatestLoss:
    """Of the recent steps, smoothed. A GPU's is copied beside its work and taken when the copy has arrived, so it may
    be some steps old; from devices that would have to be waited for it is not taken at all."""

    def __init__(self) -> None:
        self._value: float | None = None
        self._copy: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None
        self._copied_at = -COPY_EVERY_S

    def add(self, loss: Tensor) -> None:
        """The loss of one more step, a scalar on its device."""
        if loss.device.type == "cpu":
            self._take(loss)
        elif loss.is_cuda:
            self._take_what_arrived()
            now = time.monotonic()
            if self._copy is None and now - self._copied_at >= COPY_EVERY_S:
                self._copied_at = now
                self._begin_copy(loss)

    @property
    def value(self) -> float | None:
        """None as long as none is known."""
        self._take_what_arrived()
        return self._value

    def _begin_copy(self, loss: Tensor) -> None:
        self._copy = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record(torch.cuda.current_stream(loss.device))

    def _take_what_arrived(self) -> None:
        if self._copy is not None and self._arrived is not None and self._arrived.query():  # type: ignore[no-untyped-call]
            self._take(self._copy)
            self._copy = None

    def _take(self, loss: Tensor) -> None:
        newest = loss.item()
        self._value = newest if self._value is None else self._value + SMOOTHING * (newest - self._value)
