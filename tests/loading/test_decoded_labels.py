"""Soft labels of a small store, decoded once, are those that the store gives."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from softlab.indices import StoreIndex
from softlab.labels.soft_labels import SoftLabels
from softlab.loading import decoded_labels
from softlab.loading.decoded_labels import DecodedLabels
from softlab.store.reader import Store
from tests.loading.own_data import COUNT, dump_plain
from tests.loading.seen import dump_what_is_seen, nameless

ASKED = StoreIndex(np.array([5, 0, 5, COUNT - 1]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return dump_plain(tmp_path_factory.mktemp("plain") / "store")


def assert_same(found: SoftLabels, expected: SoftLabels) -> None:
    assert repr(found) == repr(expected)
    assert all(one.equal(other) for one, other in zip(found.tensors(), expected.tensors(), strict=True))


def refuse(*_: object, **__: object) -> SoftLabels:
    pytest.fail("the store is read again")


def test_batches_are_taken_from_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, expected = DecodedLabels(store), store.read(ASKED)
    assert_same(decoded.read(ASKED, view=0), expected)

    monkeypatch.setattr(store, "read", refuse)

    assert_same(decoded.read(ASKED, view=0), expected)


def test_a_batch_is_not_the_memory_of_the_next(store: Store) -> None:
    decoded = DecodedLabels(store)
    decoded.read(ASKED, view=0).logits_BK.fill_(7.0)

    assert_same(decoded.read(ASKED, view=0), store.read(ASKED))


def test_another_view_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    store = dump_what_is_seen(tmp_path / "seen", nameless(COUNT), num_views=2)
    decoded = DecodedLabels(store)

    for view in (0, 1, 0):
        assert_same(decoded.read(ASKED, view=view), store.read(ASKED, view=view))
    each_B = np.array([1, 0, 0, 1])
    assert_same(decoded.read(ASKED, view=each_B), store.read(ASKED, view=each_B))


def test_a_large_store_is_read_batch_by_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_labels, "MAX_BYTES", 100)
    decoded, expected = DecodedLabels(store), store.read(ASKED)
    assert_same(decoded.read(ASKED, view=0), expected)

    monkeypatch.setattr(store, "read", lambda *_, **__: expected)

    assert decoded.read(ASKED, view=0) is expected


def test_a_copy_for_another_process_goes_without_what_is_held(store: Store) -> None:
    decoded = DecodedLabels(store)
    before = len(pickle.dumps(decoded))
    decoded.read(ASKED, view=0)

    assert len(pickle.dumps(decoded)) == before
    assert_same(pickle.loads(pickle.dumps(decoded)).read(ASKED, view=0), store.read(ASKED))
