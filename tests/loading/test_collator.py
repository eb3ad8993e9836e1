"""Every batch of a user's own loader gets the labels of its very samples, in any form, worker, rank and library."""

# Shape letters: B samples in a batch, P pixels of a picture.

from collections import UserDict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler, Subset, default_collate

from softlab.errors import EpochNotSet, InvalidOption, StoreMismatch
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.collator import Collator
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.own_loop import align
from softlab.loading.with_index import with_index
from softlab.store.reader import Store, open_store
from tests.forks import FORKS
from tests.loading.own_data import BACKWARDS, COUNT, WHOLE, OwnData, OwnStream, Pair, are_of, dump_plain
from tests.loading.seen import dump_what_is_seen, nameless
from tests.teacher.dumping import dump, make_options

# Two workers are asked for on whatever machine this is.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return dump_plain(tmp_path_factory.mktemp("plain") / "store")


@pytest.fixture
def labels(store: Store) -> DatasetLabels:
    return align(store, BACKWARDS)


def own(form: str = "tuple") -> Dataset[Any]:
    return with_index(OwnData(form, BACKWARDS))


def in_store(targets: Any) -> list[int]:
    """Where samples of the data set stand in the store."""
    return [COUNT - 1 - int(target) for target in targets]


def load(dataset: Dataset[Any], collator: Collator, **options: Any) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=6, collate_fn=collator, **options)


# Forms of batches.


def test_a_mapping_gets_soft_labels_and_features_and_keeps_its_index(store: Store, labels: DatasetLabels) -> None:
    batches = list(load(own("dict"), Collator(labels, features=["pixels"]), shuffle=True))

    assert sorted(index for batch in batches for index in batch["index"].tolist()) == list(range(COUNT))
    for batch in batches:
        assert list(batch) == ["x", "y", "path", "index", "soft_labels", "features"]
        assert batch["index"].equal(batch["y"])
        assert are_of(batch["soft_labels"], store, in_store(batch["y"]))
        assert batch["features"]["pixels"].equal(store.read_features("pixels", in_store(batch["y"])))


def test_the_labels_tell_the_very_pixels_that_are_beside_them(labels: DatasetLabels) -> None:
    for x, _, soft in load(own(), Collator(labels), shuffle=True):
        pixels_BP = (x.float() / 255 - 0.5).div(0.5).flatten(1)
        seen_BP = torch.empty_like(pixels_BP).scatter_(1, soft.class_ids_BK, soft.logits_BK)
        torch.testing.assert_close(pixels_BP - pixels_BP.max(dim=1, keepdim=True).values, seen_BP, rtol=0, atol=1e-5)


def test_a_tuple_gets_them_as_its_last_items(store: Store, labels: DatasetLabels) -> None:
    x, y, soft = next(iter(load(own(), Collator(labels))))
    assert are_of(soft, store, in_store(y))
    assert len(x) == len(y) == len(soft)

    _, y, soft, features = next(iter(load(own(), Collator(labels, features=["pixels"]))))
    assert are_of(soft, store, in_store(y))
    assert features["pixels"].equal(store.read_features("pixels", in_store(y)))


@pytest.mark.parametrize(("form", "kind"), [("named", Pair), ("tensor", torch.Tensor)])
def test_any_other_batch_stays_itself_beside_them(store: Store, labels: DatasetLabels, form: str, kind: type) -> None:
    batch, soft = next(iter(load(own(form), Collator(labels))))

    assert type(batch) is kind
    assert are_of(soft, store, in_store(range(6)))


def test_a_subset_may_count_from_the_end(store: Store, labels: DatasetLabels) -> None:
    batch = next(iter(load(Subset(own("dict"), [-1, 3, -COUNT]), Collator(labels))))

    assert batch["index"].tolist() == [19, 3, 0]
    assert are_of(batch["soft_labels"], store, in_store([19, 3, 0]))


def test_the_users_own_collate_function_sees_the_users_own_items(labels: DatasetLabels) -> None:
    seen: list[Any] = []

    def collate(items: list[Any]) -> Any:
        seen.extend(items)
        return UserDict(default_collate(items))

    batch = next(iter(load(own("dict"), Collator(labels, collate=collate))))

    assert {tuple(item) for item in seen} == {("x", "y", "path")}
    assert isinstance(batch, UserDict)
    assert isinstance(batch["soft_labels"], SoftLabels)


def test_of_units_all_rows_of_the_samples_come_and_how_many_each_has(tmp_path: Path) -> None:
    dump(tmp_path / "units", make_options(k=3), teacher=nn.Conv2d(3, 5, 1), source=nameless(COUNT))
    store = open_store(tmp_path / "units")

    _, y, soft = next(iter(load(own(), Collator(align(store, BACKWARDS)))))

    assert soft.counts_B.tolist() == [4 * 6] * 6
    assert are_of(soft, store, in_store(y))


def test_of_a_store_without_soft_labels_features_come_alone(tmp_path: Path) -> None:
    store = dump_plain(tmp_path / "values", output=("logits:values",), feature={}, k=None)
    labels = align(store, BACKWARDS)

    _, y, features = next(iter(load(own(), Collator(labels, features=["logits"]))))
    assert features["logits"].equal(store.read_features("logits", in_store(y)))
    with pytest.raises(InvalidOption, match=r"only values. .*Collator\(labels, features=\['logits'\]\)"):
        Collator(labels)
    with pytest.raises(StoreMismatch, match="holds no soft labels"):
        labels.read([0])


# By key.


def test_items_that_tell_their_key_get_its_labels_whatever_the_order(store: Store) -> None:
    collator = Collator(align(store))
    for dataset in (OwnStream(), OwnData("dict", BACKWARDS), Subset(OwnData("dict"), [7, 3, 12])):
        for batch in load(with_index(dataset, key="path"), collator):
            assert batch["key"] == batch["path"]
            assert are_of(batch["soft_labels"], store, [WHOLE.keys.index(key) for key in batch["key"]])


@pytest.mark.process
def test_workers_that_share_a_stream_get_each_the_labels_of_their_own_samples(store: Store) -> None:
    loader = load(with_index(OwnStream(), key="path"), Collator(align(store)), num_workers=2)

    batches = list(loader)

    assert sorted(key for batch in batches for key in batch["key"]) == list(WHOLE.keys)
    for batch in batches:
        assert are_of(batch["soft_labels"], store, [WHOLE.keys.index(key) for key in batch["key"]])


def test_a_key_that_is_no_samples_is_refused(store: Store) -> None:
    dataset = with_index(OwnData("tuple"), key=lambda item: f"train/{item[1]}.png")

    with pytest.raises(StoreMismatch, match=r"no sample with the key 'train/0.png', 'train/1.png', .* and 3 more"):
        next(iter(load(dataset, Collator(align(store)))))


# What is refused.


def test_an_unknown_feature_is_refused_before_the_first_batch(labels: DatasetLabels) -> None:
    with pytest.raises(InvalidOption, match="has no feature 'pool'"):
        Collator(labels, features=["pool"])


class KnownColumns(OwnData):
    """What a library leaves that keeps only the columns it knows."""

    def __getitem__(self, index: int) -> Any:
        return {"x": own("dict")[index]["x"]}


@pytest.mark.parametrize(
    ("dataset", "found"),
    [
        (OwnData("tuple"), "type tuple"),
        (OwnData("dict"), "the fields x, y, path"),
        (KnownColumns(), "the fields x"),
        (ConcatDataset([own("dict"), OwnData("dict")]), "the fields x, y, path, index"),
    ],
)
def test_items_that_tell_no_index_are_refused(labels: DatasetLabels, dataset: Dataset[Any], found: str) -> None:
    message = rf"items \(of {found}\) don't tell which samples they are.*Load softlab.with_index\(data set\)"
    with pytest.raises(StoreMismatch, match=message):
        list(DataLoader(dataset, batch_size=len(dataset), collate_fn=Collator(labels)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dataset", "length"),
    [
        pytest.param(with_index(OwnData("dict", nameless(COUNT + 5))), 25, id="longer than the store"),
        pytest.param(with_index(OwnData("tuple", nameless(8))), 8, id="shorter"),
        pytest.param(
            ConcatDataset([with_index(OwnData("dict", nameless(12))), with_index(OwnData("dict", nameless(8)))]),
            12,
            id="two of them that count for themselves",
        ),
    ],
)
def test_the_index_of_another_data_set_is_refused(labels: DatasetLabels, dataset: Dataset[Any], length: int) -> None:
    message = rf"aligned to 20 samples, but the items are of a data set of {length}, such as sample 0"
    with pytest.raises(StoreMismatch, match=message):
        list(load(dataset, Collator(labels)))


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_a_loader_that_makes_no_batches_is_refused(labels: DatasetLabels, form: str) -> None:
    with pytest.raises(InvalidOption, match=r"one item, not those of a batch. Give the loader a batch_size"):
        next(iter(DataLoader(own(form), batch_size=None, collate_fn=Collator(labels))))


def test_an_index_of_the_users_own_that_is_outside_is_refused_and_named(labels: DatasetLabels) -> None:
    class Numbered(OwnData):
        def __getitem__(self, index: int) -> Any:
            return {"index": index + 17}

    with pytest.raises(StoreMismatch, match=r"data set of 20 samples, which has no sample 20, 21, 22\. Align the keys"):
        list(load(Numbered("dict"), Collator(labels)))


def test_a_field_of_the_users_own_that_has_the_name_is_refused(labels: DatasetLabels) -> None:
    class Numbered(OwnData):
        def __getitem__(self, index: int) -> Any:
            return {"index": index + 17}

    with pytest.raises(InvalidOption, match="have an index of their own, 17"):
        list(load(with_index(Numbered()), Collator(labels)))


def test_an_index_is_refused_where_the_store_was_aligned_without_keys(store: Store) -> None:
    with pytest.raises(InvalidOption, match="aligned without keys, so that an index means nothing"):
        list(load(own(), Collator(align(store))))


# In workers, ranks and other libraries.


@pytest.mark.process
@pytest.mark.parametrize(
    "start", ["fork", *(pytest.param(each, marks=pytest.mark.slow) for each in ("forkserver", "spawn"))]
)
def test_workers_that_stay_learn_of_each_new_epoch(tmp_path: Path, start: str) -> None:
    store = dump_what_is_seen(tmp_path / "store", WHOLE, num_views=3)
    labels = align(store, BACKWARDS, views_mismatch="allow")
    loader = load(
        own("dict"),
        Collator(labels),
        num_workers=2 if start == "fork" else 1,
        persistent_workers=True,
        multiprocessing_context=FORKS if start == "forkserver" else get_context(start),
    )

    for epoch in (0, 1, 2, 3):
        labels.set_epoch(epoch)
        for batch in loader:
            assert are_of(batch["soft_labels"], store, in_store(batch["y"]), view=epoch % 3)


@pytest.mark.process
def test_an_epoch_that_nobody_sets_is_told_by_the_first_worker_that_notices(tmp_path: Path) -> None:
    labels = align(dump_what_is_seen(tmp_path / "store", WHOLE), BACKWARDS, views_mismatch="allow")

    with pytest.raises(EpochNotSet, match=r"has 3 views, and no epoch was set.*Call set_epoch\(epoch\)"):
        list(load(own(), Collator(labels), num_workers=1))  # where a warning is an error
    assert len(list(load(own(), Collator(labels)))) == 4  # said once


def test_ranks_get_each_the_labels_of_their_own_samples(store: Store, labels: DatasetLabels) -> None:
    seen: list[int] = []
    for rank in range(2):
        sampler: DistributedSampler[Any] = DistributedSampler(OwnData(), num_replicas=2, rank=rank, seed=3)
        for _, y, soft in load(own(), Collator(labels), sampler=sampler):
            seen += y.tolist()
            assert are_of(soft, store, in_store(y))

    assert sorted(seen) == list(range(COUNT))


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_accelerate_shares_batches_between_ranks_and_moves_them(store: Store, labels: DatasetLabels, form: str) -> None:
    seen: list[int] = []
    for rank in range(2):
        loader = load(own(form), Collator(labels))
        for batch in prepare_data_loader(loader, num_processes=2, process_index=rank):
            y, soft = (batch["y"], batch["soft_labels"]) if form == "dict" else batch[1:]
            seen += y.tolist()
            assert are_of(soft, store, in_store(y))
            *_, moved = send_to_device(batch, "meta").values() if form == "dict" else send_to_device(batch, "meta")
            assert {tensor.device.type for tensor in moved.tensors()} == {"meta"}

    assert set(seen) == set(range(COUNT))


@pytest.mark.gpu
def test_torch_pins_the_labels_of_a_batch(labels: DatasetLabels) -> None:
    for batch in load(own("dict"), Collator(labels), pin_memory=True):
        assert all(tensor.is_pinned() for tensor in batch["soft_labels"].tensors())
