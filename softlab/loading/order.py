"""In which order samples are read: a pure function of (seed, epoch), and of lengths where they are asked for, whatever
the workers, ranks or past crashes."""

# Shape letters: N samples of the source, B rows in a batch, S samples of some batches, M views of each, V stored views.

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softlab.indices import SourceIndex
from softlab.loading.permutation import Permutation
from softlab.loading.philox import generator_of, runs_at
from softlab.loading.windows import WINDOW_BLOCKS, Windows

ViewNumbers = NDArray[np.int64]

Order = Callable[[int, int], SourceIndex]
"""Gives the samples that stand from one place to another, without the latter."""

ViewOrder = Literal["cycle", "random"]
Shuffle = Literal["full", "blocks"]

VIEWS, LENGTHS, PLACES = 1, 2, 3
"""Streams of random numbers beside that of `epoch_order`, 0."""

WHOLE_SAMPLES = 1 << 24
"""Up to so many an epoch is shuffled as a whole, 8 bytes each; of more, places and views are computed when they are
needed, which takes some 0.2 microseconds a sample."""

STRETCH_SAMPLES = 1 << 16
"""Of an epoch at a time."""

ORDERED_NUMBERS = 1 << 20
"""Put in order at a time where views are shown in random order: 8 MiB of them."""

WINDOW_BATCHES, LEAST_WINDOWS = 64, 4
"""Batches whose samples are put together by length; fewer where an epoch would have fewer than so many windows, as each
epoch's batches would be much the same."""


@dataclass(frozen=True, slots=True, eq=False)
class RowIndices:
    """B rows to load: samples of the source, each in one view."""

    source_B: SourceIndex
    views_B: ViewNumbers

    def __len__(self) -> int:
        return len(self.source_B)


def epoch_order(num_samples: int, *, seed: int, epoch: int, block_rows: int | None = None) -> SourceIndex:
    """Every sample of a source once, shuffled by a counter-based generator (Philox) keyed with seed and epoch.

    With `block_rows`, runs of so many samples come in random order, and the samples of every `WINDOW_BLOCKS` successive
    runs are shuffled among themselves: reads then fall into few shards at a time.
    """
    return order_of_epoch(num_samples, seed=seed, epoch=epoch, block_rows=block_rows)(0, num_samples)


def order_of_epoch(num_samples: int, *, seed: int, epoch: int, block_rows: int | None = None) -> Order:
    """The same, to be asked for some of its places. Of more than `WHOLE_SAMPLES` no more is held than is asked for."""
    if num_samples > WHOLE_SAMPLES:
        return by_place(num_samples, seed=seed, epoch=epoch, block_rows=block_rows)
    whole = _whole_order(num_samples, generator_of((seed, epoch), stream=0), block_rows=block_rows)
    return lambda start, stop: SourceIndex(whole[start:stop])


def by_place(num_samples: int, *, seed: int, epoch: int, block_rows: int | None = None) -> Order:
    """An order that is as random as `epoch_order`, and another one: each place is computed without the others."""
    key = (seed, epoch)
    if block_rows is None:
        permutation = Permutation.drawn(num_samples, key=key, stream=PLACES)
        return lambda start, stop: SourceIndex(permutation.at(start, stop))
    generator = generator_of(key, stream=PLACES)
    starts = generator.permutation(np.arange(0, num_samples, block_rows))
    return Windows(num_samples=num_samples, starts=starts, block_rows=block_rows, key=key, stream=PLACES).at


def _whole_order(num_samples: int, generator: np.random.Generator, *, block_rows: int | None) -> NDArray[np.int64]:
    if block_rows is None:
        return generator.permutation(num_samples)
    order = np.empty(num_samples, dtype=np.int64)
    done = 0
    starts = generator.permutation(np.arange(0, num_samples, block_rows))
    for first in range(0, len(starts), WINDOW_BLOCKS):
        blocks = [np.arange(at, min(at + block_rows, num_samples)) for at in starts[first : first + WINDOW_BLOCKS]]
        window = generator.permutation(np.concatenate(blocks))
        order[done : done + len(window)] = window
        done += len(window)
    return order


def by_length(
    order: SourceIndex, lengths_N: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int
) -> SourceIndex:
    """The same order, in which each batch has samples of similar length, so that little of it is padding.

    Of each window of successive batches the samples are sorted by length and cut into batches, which come in random
    order. The samples of a window stay in it, and what doesn't fill a batch stays behind the last one: an epoch has the
    samples that it has without.
    """
    generator = generator_of((seed, epoch), stream=LENGTHS)
    num_batches, grouped = len(order) // batch_size, order.copy()
    window_batches = min(WINDOW_BATCHES, max(num_batches // LEAST_WINDOWS, 1))
    for first in range(0, num_batches, window_batches):
        rows = slice(first * batch_size, min(first + window_batches, num_batches) * batch_size)
        window = order[rows]
        batches = window[lengths_N[window].argsort(kind="stable")].reshape(-1, batch_size)
        grouped[rows] = generator.permutation(batches).reshape(-1)
    return SourceIndex(grouped)


def epoch_views(num_samples: int, *, num_views: int | None, seed: int, epoch: int, order: ViewOrder) -> ViewNumbers:
    """Which view of each sample an epoch shows, int64 [N].

    `cycle`: view e mod V in epoch e. `random`: over V epochs, a cycle, each sample shows each of its V views once, in
    an order that is drawn anew for each sample and cycle: a function of (seed, sample, cycle), whatever N is. Views
    without number (None) are all different: view e in epoch e.
    """
    if num_views is None or order == "cycle":
        view = epoch if num_views is None else epoch % num_views
        return np.broadcast_to(np.int64(view), num_samples)  # a number, however many samples there are
    cycle, position = divmod(epoch, num_views)
    generator = generator_of((seed, cycle), stream=VIEWS)
    shown_N = np.empty(num_samples, dtype=np.int64)
    block_rows = max(ORDERED_NUMBERS // num_views, 1)
    for start in range(0, num_samples, block_rows):  # sample n has the numbers n * V .. n * V + V - 1 of the generator
        keys_BV = generator.random((min(block_rows, num_samples - start), num_views))
        shown_N[start : start + block_rows] = keys_BV.argsort(axis=1, kind="stable")[:, position]
    return shown_N


def views_of(source_B: SourceIndex, *, num_views: int | None, seed: int, epoch: int, order: ViewOrder) -> ViewNumbers:
    """The same of some samples, int64 [B]: nothing is computed for the others."""
    if num_views is None or order == "cycle":
        return epoch_views(len(source_B), num_views=num_views, seed=seed, epoch=epoch, order=order)
    cycle, position = divmod(epoch, num_views)
    keys_BV = runs_at(source_B * num_views, count=num_views, key=(seed, cycle), stream=VIEWS)
    return keys_BV.argsort(axis=1, kind="stable")[:, position]


def in_sequence(start: int, stop: int, *, batch_size: int, view: int = 0) -> list[RowIndices]:
    """Samples start..stop-1 in one view, in batches; the last one may be shorter."""
    batches = [np.arange(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size)]
    return [RowIndices(SourceIndex(source_B), np.full(len(source_B), view)) for source_B in batches]


def spread_out(num_samples: int, *, count: int) -> RowIndices:
    """So many samples from all over a source, in the first view."""
    return RowIndices(SourceIndex(np.arange(count) * num_samples // count), np.zeros(count, dtype=np.int64))


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
    block_rows: int | None = None
    """As `epoch_order` means it; None: each epoch is shuffled as a whole."""

    lengths_N: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)
    """Of each sample, for batches of samples of similar length; None: batches are of the shuffled order."""

    views_per_image: int = 1
    """Views of each sample of a batch, whose rows stand side by side; it divides the rows of a batch.

    Of m views, m epochs have the rows that they have without, put together by sample: each sample comes once in them,
    in the views that they show of it. An epoch still has as many batches."""

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

    @property
    def batch_samples(self) -> int:
        """Different samples of a batch."""
        rows = min(self.batch_size, self.num_samples)
        assert rows % self.views_per_image == 0, "checked before a run begins"
        return rows // self.views_per_image

    def __iter__(self) -> Iterator[RowIndices]:
        num_epochs = self.views_per_image
        first_pass, first_position = divmod(self.first_step, num_epochs * self.steps_per_epoch)
        for epoch in range(first_pass * num_epochs, self.epochs, num_epochs):
            yield from self._pass(epoch, first_position if epoch == first_pass * num_epochs else 0)

    def _pass(self, epoch: int, first_position: int) -> Iterator[RowIndices]:
        """The batches of an epoch, or of as many as a batch has views of a sample: all samples once."""
        epochs = range(epoch, epoch + self.views_per_image)
        order, views_of, size = self._order(epoch), [self._views(each) for each in epochs], self.batch_samples
        num_steps = min(len(epochs), self.epochs - epoch) * self.steps_per_epoch
        at_a_time = max(STRETCH_SAMPLES // size, 1)
        for first in range(first_position, num_steps, at_a_time):
            steps = range(first, min(first + at_a_time, num_steps))
            stretch_S = order(first * size, steps.stop * size)
            views_SM = np.stack([views(stretch_S) for views in views_of], axis=1)
            for step in steps:
                here = slice((step - first) * size, (step - first + 1) * size)
                source_B = np.repeat(stretch_S[here], self.views_per_image)
                yield RowIndices(SourceIndex(source_B), views_SM[here].reshape(-1))

    def _order(self, epoch: int) -> Order:
        order = order_of_epoch(self.num_samples, seed=self.seed, epoch=epoch, block_rows=self.block_rows)
        if self.lengths_N is None:
            return order
        whole = order(0, self.views_per_image * self.steps_per_epoch * self.batch_samples)
        batch_size = self.batch_size // self.views_per_image
        whole = by_length(whole, self.lengths_N, batch_size=batch_size, seed=self.seed, epoch=epoch)
        return lambda start, stop: SourceIndex(whole[start:stop])

    def _views(self, epoch: int) -> Callable[[SourceIndex], ViewNumbers]:
        if self.num_samples * self.views_per_image > WHOLE_SAMPLES:
            return partial(views_of, num_views=self.num_views, seed=self.seed, epoch=epoch, order=self.view_order)
        whole = epoch_views(
            self.num_samples, num_views=self.num_views, seed=self.seed, epoch=epoch, order=self.view_order
        )
        return whole.__getitem__
