# Shape letters: N samples.

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from softlab.errors import OddLabels
from softlab.loading.collator import Collator
from softlab.loading.own_loop import align
from softlab.loading.told_targets import targets_of
from softlab.loading.with_index import with_index
from softlab.store.reader import Store, open_store
from tests.teacher.dumping import NUM_CLASSES, Pictures, dump, make_options

COUNT = 200
SOURCE = Pictures(count=COUNT, class_names=None)
FROM_ONE = r"count classes otherwise than the teacher.*the labels count from 1"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("told") / "store"
    dump(out, make_options(), source=SOURCE)
    return open_store(out)


def predicted(store: Store) -> NDArray[np.int64]:
    return store.read(np.arange(COUNT)).class_ids_BK[:, 0].numpy()


def load(store: Store, targets_N: NDArray[np.int64], form: str) -> Sequence[Any]:
    pairs = [(torch.zeros(2), int(target)) for target in targets_N]
    items = pairs if form == "tuple" else [{"pixels": x, "labels": y} for x, y in pairs]
    labels = align(store, SOURCE.keys, verify="keys")
    return list(DataLoader(with_index(items), 32, collate_fn=Collator(labels)))


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_batches_whose_targets_count_otherwise_are_told_once(store: Store, form: str) -> None:
    with pytest.warns(OddLabels, match=FROM_ONE) as told:
        batches = load(store, predicted(store) + 1, form)

    assert (len(batches), len(told)) == (7, 1)


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_targets_that_are_the_teachers_or_nobodys_are_not_told(store: Store, form: str) -> None:
    load(store, predicted(store), form)
    load(store, np.random.default_rng(0).integers(0, NUM_CLASSES, COUNT), form)


def test_integers_that_can_be_no_classes_are_not_compared(store: Store) -> None:
    load(store, np.arange(COUNT) * 10**15 - 5, "tuple")


def test_a_source_that_is_aligned_is_compared_too(store: Store) -> None:
    shifted = Pictures(count=COUNT, class_names=None, targets_N=predicted(store) + 1)

    with pytest.warns(OddLabels, match=FROM_ONE):
        align(store, shifted)


def test_targets_are_the_only_integers_of_a_tuple_or_named_as_such() -> None:
    one, other, floats = torch.arange(3), torch.arange(3) + 1, torch.zeros(3)

    assert targets_of((floats, one), num_samples=3) is one
    assert targets_of({"x": other, "labels": one}, num_samples=3) is one
    assert targets_of((one, other), num_samples=3) is None
    assert targets_of((floats, one), num_samples=2) is None
    assert targets_of(floats, num_samples=3) is None
