"""In which order samples are read: a pure function of (seed, epoch), whatever the workers, ranks or past crashes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

ViewOrder = Literal["cycle", "random"]


@dataclass(frozen=True, slots=True, eq=False)
class RowNumbers:
    """B rows: samples by their number in the source, each in one view."""

    samples_B: Numbers
    views_B: Numbers

    def __len__(self) -> int:
        return len(self.samples_B)


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> Numbers:
    """Every sample number once, shuffled by a counter-based generator (Philox) keyed with seed and epoch."""
    key = np.array([seed, epoch], dtype=np.uint64)  # from a list numpy would round seeds above 2^63
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_samples)


def epoch_views(num_samples: int, *, num_views: int | None, seed: int, epoch: int, order: ViewOrder) -> Numbers:
    """Which view of each sample an epoch shows, int64 [N].

    `cycle`: view e mod V in epoch e. `random`: over V epochs each sample shows each of its V views once, in an order
    that differs between samples. Views without number (None) are all different: view e in epoch e.
    """
    if num_views is None or order == "cycle":
        return np.full(num_samples, epoch if num_views is None else epoch % num_views)
    cycle, position = divmod(epoch, num_views)
    # The counter's highest word keeps these numbers apart from those of epoch_order.
    key, counter = np.array([seed, cycle], dtype=np.uint64), np.array([0, 0, 0, 1], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    permuted_V = generator.permutation(num_views)
    start_N = generator.integers(num_views, size=num_samples)
    return permuted_V[(start_N + position) % num_views]


def in_sequence(start: int, stop: int, *, batch_size: int, view: int = 0) -> list[RowNumbers]:
    """Samples start..stop-1 in one view, in batches; the last one may be shorter."""
    batches = [np.arange(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size)]
    return [RowNumbers(samples_B, np.full(len(samples_B), view)) for samples_B in batches]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffledBatches:
    """All batches of a training run from some step on; each epoch drops what doesn't fill a batch."""

    num_samples: int
    batch_size: int
    epochs: int
    seed: int
    num_views: int | None = 1
    """None: without end, a fresh one in every epoch."""

    view_order: ViewOrder = "cycle"
    first_step: int = 0
    """Counts batches over all epochs: a run resumed at step s goes on as if it had never stopped."""

    @property
    def steps_per_epoch(self) -> int:
        return max(self.num_samples // self.batch_size, 1)

    @property
    def num_steps(self) -> int:
        """Of the whole run, those before `first_step` included."""
        return self.epochs * self.steps_per_epoch

    def __len__(self) -> int:
        return self.num_steps - self.first_step

    def __iter__(self) -> Iterator[RowNumbers]:
        first_epoch, first_position = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            yield from self._epoch(epoch)[first_position if epoch == first_epoch else 0 :]

    def _epoch(self, epoch: int) -> list[RowNumbers]:
        order = epoch_order(self.num_samples, seed=self.seed, epoch=epoch)
        views_N = epoch_views(
            self.num_samples, num_views=self.num_views, seed=self.seed, epoch=epoch, order=self.view_order
        )
        starts = [position * self.batch_size for position in range(self.steps_per_epoch)]
        batches = [order[start : start + self.batch_size] for start in starts]
        return [RowNumbers(samples_B, views_N[samples_B]) for samples_B in batches]
