"""Labels of a data set: read by index, in the view of the epoch, cheap to send to workers, resumed where they were."""

import pickle
from multiprocessing.context import set_spawning_popen
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from softlab.errors import EpochNotSet, InvalidOption, StoreMismatch
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.order import epoch_views
from softlab.loading.own_loop import align
from softlab.store.reader import Store
from tests.loading.own_data import BACKWARDS, COUNT, are_of, dump_plain
from tests.loading.seen import dump_what_is_seen, nameless

NUM_VIEWS = 3


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return dump_what_is_seen(tmp_path_factory.mktemp("views") / "store", nameless(COUNT), num_views=NUM_VIEWS)


def labels_of(store: Store, **options: Any) -> DatasetLabels:
    return DatasetLabels(store, align(store, BACKWARDS, views_mismatch="allow").to_store(range(COUNT)), **options)


def test_each_epoch_shows_the_next_view(views: Store) -> None:
    labels = labels_of(views)

    for epoch in range(2 * NUM_VIEWS):
        labels.set_epoch(epoch)
        assert labels.epoch == epoch
        assert are_of(labels.read([4, 0]), views, [COUNT - 5, COUNT - 1], view=epoch % NUM_VIEWS)


def test_in_random_order_each_sample_shows_the_view_that_softlabs_own_trainer_shows(views: Store) -> None:
    labels, samples = labels_of(views, view_order="random", seed=7), np.array([4, 0, 11])

    for epoch in range(2 * NUM_VIEWS):
        labels.set_epoch(epoch)
        view_N = epoch_views(COUNT, num_views=NUM_VIEWS, seed=7, epoch=epoch, order="random")
        assert are_of(labels.read(samples), views, COUNT - 1 - samples, view=view_N[samples])


def test_other_views_than_the_epochs_can_be_asked_for(views: Store) -> None:
    assert are_of(labels_of(views).read([4, 4], views=[2, 1]), views, [COUNT - 5] * 2, view=[2, 1])


def test_several_views_without_an_epoch_are_warned_about_once(views: Store) -> None:
    labels = labels_of(views)

    with pytest.warns(EpochNotSet, match=r"has 3 views, and no epoch was set, so that view 0 is shown again and again"):
        labels.read([0])
    labels.read([0])  # where a warning is an error


def test_one_view_needs_no_epoch(tmp_path: Path) -> None:
    store = dump_plain(tmp_path / "store")
    labels = align(store, BACKWARDS)

    assert are_of(labels.read([0]), store, [COUNT - 1])
    labels.set_epoch(5)
    assert are_of(labels.read([0]), store, [COUNT - 1])


@pytest.mark.parametrize("samples", [[COUNT], [0, -1], [3, COUNT + 7, COUNT + 9]])
def test_an_index_outside_is_refused_and_named(views: Store, samples: list[int]) -> None:
    outside = ", ".join(str(sample) for sample in samples if not 0 <= sample < COUNT)

    with pytest.raises(StoreMismatch, match=f"has no sample {outside}"):
        labels_of(views).read(samples)


def test_a_mask_is_no_list_of_indices(views: Store) -> None:
    with pytest.raises(InvalidOption, match="bool values are no sample indices"):
        labels_of(views).read(torch.zeros(COUNT, dtype=torch.bool))


def test_a_negative_epoch_is_refused(views: Store) -> None:
    with pytest.raises(InvalidOption, match=r"set_epoch: -1 is no epoch. Count from 0"):
        labels_of(views).set_epoch(-1)


def test_a_run_goes_on_in_the_epoch_where_it_was(views: Store, tmp_path: Path) -> None:
    labels = labels_of(views)
    labels.set_epoch(4)
    torch.save(labels.state_dict(), tmp_path / "state.pt")

    resumed = labels_of(views)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))

    assert resumed.epoch == 4
    assert are_of(resumed.read([0]), views, [COUNT - 1], view=1)
    assert labels.state_dict() == {"version": 1, "epoch": 4, "store": views.digest}


def test_the_state_of_another_store_or_version_is_refused(views: Store, tmp_path: Path) -> None:
    labels, other = labels_of(views), align(dump_plain(tmp_path / "store"), BACKWARDS)

    with pytest.raises(StoreMismatch, match="is not the store that the run began with"):
        labels.load_state_dict(other.state_dict())
    with pytest.raises(InvalidOption, match="version 2, expected 1"):
        labels.load_state_dict(labels.state_dict() | {"version": 2})


def pickled_for_a_worker(value: object) -> memoryview:
    """As multiprocessing pickles what a process gets that it spawns: of shared memory a descriptor."""

    spawning: Any = SimpleNamespace(DupFd=lambda number: number, duplicate_for_child=lambda number: number)
    set_spawning_popen(spawning)
    try:
        return ForkingPickler.dumps(value)
    finally:
        set_spawning_popen(None)


def test_they_go_to_a_worker_without_rows_keys_or_order(tmp_path: Path) -> None:
    """What a spawned worker gets doesn't grow with the number of samples."""
    bytes_by_count = {}
    for count in (20, 2000):
        store = dump_plain(tmp_path / str(count), nameless(count), shard_rows=4000)
        labels = align(store, list(store.read_samples().keys)[::-1])
        labels.read([0])
        labels.find(["0003.png"])
        bytes_by_count[count] = len(pickled_for_a_worker(labels))

    assert bytes_by_count[2000] < bytes_by_count[20] + 100


def test_a_copy_that_goes_elsewhere_reads_the_same(views: Store) -> None:
    labels = labels_of(views, view_order="random")
    labels.set_epoch(2)

    copy = pickle.loads(pickle.dumps(labels))

    assert copy.epoch == 2
    assert copy._epoch._state.is_shared()  # with workers of its own
    assert all(map(torch.equal, copy.read([3, 5]).tensors(), labels.read([3, 5]).tensors()))
