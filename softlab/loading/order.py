"""In which order samples are read: a pure function of (seed, epoch), whatever the workers, ranks or past crashes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> Numbers:
    """Every sample number once, shuffled by a counter-based generator (Philox) keyed with seed and epoch."""
    key = np.array([seed, epoch], dtype=np.uint64)  # from a list numpy would round seeds above 2^63
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_samples)


def in_sequence(start: int, stop: int, *, batch_size: int) -> list[Numbers]:
    """Sample numbers start..stop-1 in batches; the last one may be shorter."""
    return [np.arange(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffledBatches:
    """All batches of a training run from some step on; each epoch drops what doesn't fill a batch."""

    num_samples: int
    batch_size: int
    epochs: int
    seed: int
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

    def __iter__(self) -> Iterator[Numbers]:
        order, order_epoch = np.empty(0, dtype=np.int64), -1
        for step in range(self.first_step, self.num_steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = epoch_order(self.num_samples, seed=self.seed, epoch=epoch), epoch
            yield order[position * self.batch_size : (position + 1) * self.batch_size]
