"""Samples shuffled in runs, so that what is read at a time lies in few shards; each place is computed when it is asked
for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlab.indices import SourceIndex
from softlab.loading.philox import generator_of

WINDOW_BLOCKS = 8
"""Shards whose samples are shuffled together where whole stores are not: half of what a reader keeps decoded."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Windows:
    """Runs of samples in random order, of which every `WINDOW_BLOCKS` are shuffled by a generator of their own."""

    num_samples: int
    starts: NDArray[np.int64]
    """Of the runs, in their order."""

    block_rows: int
    key: tuple[int, int]
    stream: int
    """Of random numbers; its first part is that of `starts`."""

    def at(self, start: int, stop: int) -> SourceIndex:
        """What stands at some places."""
        places = self._first_places()
        first, last = (np.searchsorted(places, [start, max(stop - 1, start)], side="right") - 1).tolist()
        windows = [self._window(number) for number in range(first, last + 1)]
        here = start - int(places[first])
        return SourceIndex(np.concatenate(windows)[here : here + stop - start])

    def _first_places(self) -> NDArray[np.int64]:
        """Of each window: one of them has the last run, which may be shorter."""
        sizes = np.minimum(self.num_samples - self.starts, self.block_rows)
        ends = np.cumsum(sizes)
        return np.concatenate([[0], ends[WINDOW_BLOCKS - 1 : -1 : WINDOW_BLOCKS]])

    def _window(self, number: int) -> NDArray[np.int64]:
        starts = self.starts[number * WINDOW_BLOCKS : (number + 1) * WINDOW_BLOCKS].tolist()
        runs = [np.arange(at, min(at + self.block_rows, self.num_samples)) for at in starts]
        return generator_of(self.key, stream=self.stream, part=number + 1).permutation(np.concatenate(runs))
