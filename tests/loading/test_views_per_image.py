"""Batches with several views of each sample: which rows they have, and in which order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from softlab.indices import SourceIndex
from softlab.loading import order as order_module
from softlab.loading.order import RowIndices, ShuffledBatches, ViewOrder, epoch_order
from softlab.ranks import Ranks
from softlab.student.collectives import own_rows, parts_of

Rows = list[tuple[int, int]]
Item = TypeVar("Item")


@st.composite
def runs(draw: st.DrawFn) -> ShuffledBatches:
    """All of whose batches have `views_per_image` different views."""
    views = draw(st.integers(1, 4))
    order: ViewOrder = draw(st.sampled_from(["cycle", "random"]))
    more = draw(st.integers(1, 3) if order == "random" else st.integers(0, 5))
    stored = draw(st.none() | st.just(views * more if order == "random" else views + more))
    batch_size = views * draw(st.integers(1, 8))
    num_samples = draw(st.integers(batch_size, 60) | st.integers(1, 3).map(lambda count: count * views))
    with_lengths = draw(st.booleans())
    return ShuffledBatches(
        num_samples=num_samples,
        batch_size=batch_size,
        epochs=draw(st.integers(1, 9)),
        seed=draw(st.integers(0, 5)),
        num_views=stored,
        view_order=order,
        block_rows=draw(st.none() | st.integers(1, 9)),
        lengths_N=np.random.default_rng(0).integers(1, 50, num_samples) if with_lengths else None,
        views_per_image=views,
    )


def rows_of(batch: RowIndices) -> Rows:
    return list(zip(batch.source_B.tolist(), batch.views_B.tolist(), strict=True))


def cut(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def as_rows(run: ShuffledBatches) -> list[Rows]:
    return [rows_of(batch) for batch in run]


@given(run=runs())
def test_a_batch_has_each_of_its_samples_side_by_side_in_so_many_different_views(run: ShuffledBatches) -> None:
    for batch in run:
        samples_SM = batch.source_B.reshape(-1, run.views_per_image)
        views_SM = batch.views_B.reshape(-1, run.views_per_image)

        assert len(batch) == min(run.batch_size, run.num_samples)
        assert (samples_SM == samples_SM[:, :1]).all()
        assert len(set(samples_SM[:, 0].tolist())) == len(samples_SM), "no sample is in a batch twice"
        assert all(len(set(views)) == run.views_per_image for views in views_SM.tolist())


@given(run=runs())
def test_steps_and_epochs_are_as_many_as_without(run: ShuffledBatches) -> None:
    without = replace(run, views_per_image=1)

    assert len(as_rows(run)) == len(run) == len(without) == len(as_rows(without))
    assert run.steps_per_epoch == without.steps_per_epoch


@given(run=runs(), passes=st.integers(1, 3))
def test_so_many_epochs_have_the_rows_that_they_have_without(run: ShuffledBatches, passes: int) -> None:
    num_samples = max(run.num_samples // run.batch_size, 1) * min(run.batch_size, run.num_samples)
    lengths_N = None if run.lengths_N is None else run.lengths_N[:num_samples]
    run = replace(run, num_samples=num_samples, lengths_N=lengths_N, epochs=passes * run.views_per_image)
    without = replace(run, views_per_image=1)
    steps = run.views_per_image * run.steps_per_epoch

    for ours, theirs in zip(cut(list(run), steps), cut(list(without), steps), strict=True):
        found, expected = (Counter(row for batch in each for row in rows_of(batch)) for each in (ours, theirs))
        assert found == expected


@given(run=runs())
def test_what_does_not_fill_a_batch_is_left_out_of_all_views(run: ShuffledBatches) -> None:
    used = max(run.num_samples // run.batch_size, 1) * min(run.batch_size, run.num_samples)
    steps = run.views_per_image * run.steps_per_epoch

    for batches in cut(list(run), steps):
        seen = Counter(sample for batch in batches for sample in batch.source_B.tolist())
        assert set(seen.values()) == {run.views_per_image}
        assert len(seen) == used * len(batches) // steps


@given(run=runs(), data=st.data())
def test_a_run_resumed_at_any_step_gives_exactly_the_rest(run: ShuffledBatches, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, run.num_steps))

    assert as_rows(replace(run, first_step=step)) == as_rows(run)[step:]


@given(run=runs(), ranks=st.integers(1, 3), parts=st.integers(1, 3))
def test_parts_of_all_ranks_together_are_the_batch_and_cut_no_sample(
    run: ShuffledBatches, ranks: int, parts: int
) -> None:
    assume(run.batch_samples % (ranks * parts) == 0)

    for batch in run:
        own = [own_rows(batch, Ranks(rank=rank, count=ranks)) for rank in range(ranks)]
        found = [part for rows in own for part in parts_of(rows, parts=parts)]

        assert [row for part in found for row in rows_of(part)] == rows_of(batch)
        seen = [set(part.source_B.tolist()) for part in found]
        assert sum(map(len, seen)) == len(set().union(*seen)), "no sample is in two parts"


@given(run=runs())
def test_of_very_many_samples_the_rows_obey_the_same(run: ShuffledBatches) -> None:
    """Places and views are then computed where they are needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "WHOLE_SAMPLES", 0)
        patch.setattr(order_module, "STRETCH_SAMPLES", 7)
        batches, half = as_rows(run), as_rows(replace(run, first_step=run.num_steps // 2))
    steps = run.views_per_image * run.steps_per_epoch

    assert batches[run.num_steps // 2 :] == half
    for pass_ in cut(batches, steps):
        rows = [row for batch in pass_ for row in batch]
        assert len(set(rows)) == len(rows)
        assert set(Counter(sample for sample, _ in rows).values()) == {run.views_per_image}


def test_the_views_are_the_same_however_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ShuffledBatches(
        num_samples=60, batch_size=12, epochs=8, seed=2, num_views=8, view_order="random", views_per_image=4
    )
    held = as_rows(run)

    monkeypatch.setattr(order_module, "WHOLE_SAMPLES", 100)  # less than the views that four epochs show

    assert as_rows(run) == held


def test_one_view_of_each_is_the_order_that_it_was() -> None:
    # A run that was begun by an earlier release must go on in the same order.
    run = ShuffledBatches(num_samples=10, batch_size=4, epochs=2, seed=3, num_views=4, view_order="random")

    assert as_rows(run) == [
        [(6, 0), (8, 1), (4, 2), (1, 2)],
        [(3, 3), (5, 3), (9, 0), (7, 0)],
        [(2, 1), (4, 0), (0, 1), (5, 2)],
        [(8, 0), (1, 3), (3, 2), (9, 2)],
    ]


def test_the_samples_of_a_pass_are_in_the_order_of_its_first_epoch() -> None:
    run = ShuffledBatches(num_samples=24, batch_size=8, epochs=4, seed=1, num_views=4, views_per_image=2)

    batches = as_rows(run)

    for first, epoch in ((0, 0), (6, 2)):
        samples = [sample for batch in batches[first : first + 6] for sample, _ in batch[::2]]
        assert samples == epoch_order(24, seed=1, epoch=epoch).tolist()
        views = {view for batch in batches[first : first + 6] for _, view in batch}
        assert views == {epoch, epoch + 1}


def test_batches_by_length_still_have_samples_of_similar_length() -> None:
    lengths_N = np.random.default_rng(0).integers(1, 1000, 2048)
    run = ShuffledBatches(num_samples=2048, batch_size=32, epochs=4, seed=0, lengths_N=lengths_N, views_per_image=4)

    ranges = [np.ptp(lengths_N[batch.source_B]) for batch in run]

    assert np.mean(ranges) < 60
    assert all(earlier != later for earlier, later in pairwise(as_rows(run)))


def test_a_run_over_a_billion_samples_begins_anywhere() -> None:
    run = ShuffledBatches(
        num_samples=10**9,
        batch_size=1000,
        epochs=4,
        seed=0,
        num_views=4,
        view_order="random",
        views_per_image=2,
        first_step=2_999_999,
    )

    first = next(iter(run))

    views_SM = first.views_B.reshape(-1, 2)
    assert first.source_B.dtype == SourceIndex(np.empty(0, np.int64)).dtype
    assert len(set(first.source_B.tolist())) == 500
    assert (views_SM[:, 0] != views_SM[:, 1]).all()
