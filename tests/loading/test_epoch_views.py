"""Which view of a sample an epoch shows."""

# Shape letters: N samples, V views, E epochs.

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from softlab.indices import SourceIndex
from softlab.loading.order import ShuffledBatches, ViewOrder, epoch_order, epoch_views, views_of

counts = st.integers(1, 60)
view_counts = st.integers(1, 9)
seeds = st.integers(0, 2**63 - 1)
first_epochs = st.integers(0, 50)
orders: st.SearchStrategy[ViewOrder] = st.sampled_from(["cycle", "random"])


def views_EN(
    num_samples: int, *, num_views: int | None, seed: int, order: ViewOrder, first: int, count: int
) -> NDArray[np.int64]:
    """What some consecutive epochs show."""
    epochs = range(first, first + count)
    return np.stack(
        [epoch_views(num_samples, num_views=num_views, seed=seed, epoch=epoch, order=order) for epoch in epochs]
    )


@given(num_samples=counts, num_views=view_counts, seed=seeds, first=first_epochs)
def test_a_cycle_shows_every_sample_each_view_once_in_any_epochs_that_follow_each_other(
    num_samples: int, num_views: int, seed: int, first: int
) -> None:
    found_EN = views_EN(num_samples, num_views=num_views, seed=seed, order="cycle", first=first, count=num_views)

    assert np.array_equal(np.sort(found_EN, axis=0), np.tile(np.arange(num_views)[:, None], num_samples))
    assert (found_EN == found_EN[:, :1]).all(), "all samples of an epoch show the same view"
    assert found_EN[0, 0] == first % num_views


@given(num_samples=counts, num_views=view_counts, seed=seeds, cycle=st.integers(0, 20))
def test_in_random_order_a_sample_shows_no_view_twice_in_the_epochs_of_one_round(
    num_samples: int, num_views: int, seed: int, cycle: int
) -> None:
    found_EN = views_EN(
        num_samples, num_views=num_views, seed=seed, order="random", first=cycle * num_views, count=num_views
    )

    assert np.array_equal(np.sort(found_EN, axis=0), np.tile(np.arange(num_views)[:, None], num_samples))


@given(num_samples=counts, num_views=st.none() | view_counts, seed=seeds, epoch=first_epochs, order=orders)
def test_some_samples_show_the_views_that_they_show_among_all(
    num_samples: int, num_views: int | None, seed: int, epoch: int, order: ViewOrder
) -> None:
    all_N = epoch_views(num_samples, num_views=num_views, seed=seed, epoch=epoch, order=order)
    some_B = SourceIndex(np.random.default_rng(seed).integers(num_samples, size=7))

    assert views_of(some_B, num_views=num_views, seed=seed, epoch=epoch, order=order).tolist() == all_N[some_B].tolist()


@given(num_samples=counts, seed=seeds, first=first_epochs, order=orders)
def test_views_without_number_are_a_fresh_one_in_every_epoch(
    num_samples: int, seed: int, first: int, order: ViewOrder
) -> None:
    found_EN = views_EN(num_samples, num_views=None, seed=seed, order=order, first=first, count=3)

    assert found_EN.tolist() == [[epoch] * num_samples for epoch in range(first, first + 3)]


@given(num_samples=counts, num_views=st.none() | view_counts, seed=seeds, epoch=first_epochs, order=orders)
def test_the_views_are_a_function_of_seed_and_epoch_alone(
    num_samples: int, num_views: int | None, seed: int, epoch: int, order: ViewOrder
) -> None:
    first = epoch_views(num_samples, num_views=num_views, seed=seed, epoch=epoch, order=order)
    np.random.default_rng().random(7)
    epoch_views(num_samples, num_views=num_views, seed=seed, epoch=epoch + 1, order=order)

    again = epoch_views(num_samples, num_views=num_views, seed=seed, epoch=epoch, order=order)
    assert again.tolist() == first.tolist()
    assert again.dtype == np.int64


def test_in_random_order_each_sample_and_round_has_an_order_of_its_own() -> None:
    rounds = [views_EN(6000, num_views=3, seed=0, order="random", first=first, count=3) for first in (0, 3)]

    codes = [found_EN.T @ np.array([9, 3, 1]) for found_EN in rounds]
    pairs, counts = np.unique(6000 * codes[0] + codes[1], return_counts=True)
    assert len(pairs) == 36, "each of the six orders is followed by each"
    assert counts == pytest.approx([6000 / 36] * 36, abs=60)


@given(num_samples=counts, num_views=view_counts, seed=seeds, epoch=first_epochs)
def test_the_order_of_a_sample_does_not_depend_on_how_many_there_are(
    num_samples: int, num_views: int, seed: int, epoch: int
) -> None:
    few, many = (
        epoch_views(count, num_views=num_views, seed=seed, epoch=epoch, order="random")
        for count in (num_samples, num_samples + 40)
    )

    assert few.tolist() == many[:num_samples].tolist()


def test_blocks_change_nothing_about_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = epoch_views(50, num_views=4, seed=1, epoch=2, order="random")

    monkeypatch.setattr("softlab.loading.order.ORDERED_NUMBERS", 30)

    assert epoch_views(50, num_views=4, seed=1, epoch=2, order="random").tolist() == whole.tolist()


def test_in_random_order_samples_and_rounds_differ() -> None:
    found_EN = views_EN(1000, num_views=4, seed=0, order="random", first=0, count=8)

    for shown_N in found_EN:
        assert np.bincount(shown_N, minlength=4) == pytest.approx([250] * 4, abs=60), "views are about as frequent"
    assert not np.array_equal(found_EN[:4], found_EN[4:])


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63, 2**64 - 2])
def test_neighbouring_seeds_give_different_views_however_large_they_are(seed: int) -> None:
    one, other = (
        epoch_views(100, num_views=4, seed=each, epoch=0, order="random").tolist() for each in (seed, seed + 1)
    )

    assert one != other


def test_the_views_are_the_same_on_every_machine_and_in_every_version() -> None:
    found = [epoch_views(8, num_views=4, seed=3, epoch=epoch, order="random").tolist() for epoch in (0, 1, 5)]

    assert found == [[3, 2, 2, 3, 2, 3, 0, 0], [1, 3, 1, 2, 0, 2, 2, 1], [2, 3, 3, 3, 3, 2, 2, 2]]


def test_views_are_drawn_from_other_numbers_than_the_order() -> None:
    """Else which view a sample shows would depend on where in the epoch it comes."""
    order = epoch_order(4000, seed=7, epoch=0)
    views = epoch_views(4000, num_views=4, seed=7, epoch=0, order="random")

    first_half = views[order[:2000]]
    assert np.bincount(first_half, minlength=4) == pytest.approx([500] * 4, abs=100)
    assert abs(np.corrcoef(np.argsort(order), views)[0, 1]) < 0.06


runs = st.builds(
    ShuffledBatches,
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    epochs=st.integers(1, 6),
    seed=st.integers(0, 5),
    num_views=st.none() | st.integers(1, 5),
    view_order=orders,
)


def as_rows(run: ShuffledBatches) -> list[tuple[list[int], list[int]]]:
    return [(rows.source_B.tolist(), rows.views_B.tolist()) for rows in run]


@given(run=runs)
def test_each_row_of_a_run_is_in_the_view_that_its_epoch_shows_of_its_sample(run: ShuffledBatches) -> None:
    for step, (samples, views) in enumerate(as_rows(run)):
        epoch = step // run.steps_per_epoch
        shown_N = epoch_views(
            run.num_samples, num_views=run.num_views, seed=run.seed, epoch=epoch, order=run.view_order
        )
        assert views == shown_N[samples].tolist()


@given(run=runs, data=st.data())
def test_a_run_resumed_at_any_step_goes_on_with_the_same_views(run: ShuffledBatches, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, run.num_steps))

    resumed = replace(run, first_step=step)

    assert as_rows(resumed) == as_rows(run)[step:]


@given(run=runs)
def test_views_change_nothing_about_the_order_of_samples(run: ShuffledBatches) -> None:
    plain = replace(run, num_views=1, view_order="cycle")

    assert [samples for samples, _ in as_rows(run)] == [samples for samples, _ in as_rows(plain)]


def test_whole_epochs_show_every_view_of_every_sample_once() -> None:
    run = ShuffledBatches(num_samples=12, batch_size=4, epochs=5, seed=0, num_views=5, view_order="random")

    rows = [pair for samples, views in as_rows(run) for pair in zip(samples, views, strict=True)]

    assert sorted(rows) == [(sample, view) for sample in range(12) for view in range(5)]
