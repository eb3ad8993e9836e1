"""Items tell which sample they are, whatever form they have, and through every wrapper of torch."""

import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, random_split

from softlab.errors import InvalidOption
from softlab.loading.with_index import IndexedItem, SampleIndex, with_index
from tests.loading.own_data import COUNT, WHOLE, OwnData, OwnStream, Pair


def told(item: Any) -> Any:
    return item["index"] if isinstance(item, dict) else item.sample


def test_a_mapping_gets_its_index_as_a_field() -> None:
    item = with_index(OwnData("dict"))[3]

    assert list(item) == ["x", "y", "path", "index"]
    assert (item["y"], item["index"]) == (3, 3)


@pytest.mark.parametrize(("form", "kind"), [("tuple", tuple), ("named", Pair), ("tensor", torch.Tensor)])
def test_any_other_item_stays_as_it_is_beside_its_index(form: str, kind: type) -> None:
    item = with_index(OwnData(form))[3]

    assert isinstance(item, IndexedItem)
    assert type(item.item) is kind
    assert item.sample == 3


def test_an_index_knows_the_length_of_its_data_set_and_counts_from_the_end() -> None:
    index = told(with_index(OwnData())[-1])

    for same in (index, pickle.loads(pickle.dumps(index))):
        assert isinstance(same, SampleIndex)
        assert (same, same.num_samples, same.view) == (COUNT - 1, COUNT, None)


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_parts_of_it_tell_the_index_in_the_whole(form: str) -> None:
    dataset = with_index(OwnData(form))

    assert [told(Subset(dataset, [9, 4, 11])[place]) for place in range(3)] == [9, 4, 11]
    one, other = random_split(dataset, [5, COUNT - 5], generator=torch.Generator().manual_seed(0))
    assert sorted(told(part[place]) for part in (one, other) for place in range(len(part))) == list(range(COUNT))


def test_a_part_that_would_count_for_itself_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"Take the subset of with_index\(data set\) instead, or give key="):
        with_index(Subset(OwnData(), [9, 4]))

    assert with_index(Subset(OwnData("dict"), [9, 4]), key="path")[0]["key"] == WHOLE.keys[9]


@pytest.mark.parametrize("key", ["path", lambda item: item["path"]])
def test_an_item_may_tell_its_key_instead(key: Any) -> None:
    item = with_index(OwnData("dict"), key=key)[3]

    assert item["key"] == WHOLE.keys[3]
    assert "index" not in item
    assert with_index(OwnData("tuple"), key=lambda item: f"{item[1]:04d}.png")[3].sample == "0003.png"


def test_a_stream_tells_keys_and_is_refused_without() -> None:
    with pytest.raises(InvalidOption, match="no indices, as each worker and rank would count for itself"):
        with_index(OwnStream())

    found = [item["key"] for item in DataLoader(with_index(OwnStream(), key="path"), batch_size=None)]
    assert found == WHOLE.keys[::-1]


@pytest.mark.parametrize(
    ("dataset", "key", "message"),
    [
        (OwnData("dict"), "paht", "no field 'paht'. Did you mean path"),
        (OwnData("tuple"), "path", "no field 'path'. They are of type tuple. Give key= a function"),
        (OwnData("dict"), "y", "key= gave 3, of type int. Give text"),
        (OwnData("dict"), lambda item: None, "key= gave None"),
    ],
)
def test_a_key_that_is_not_there_or_no_text_is_refused(dataset: Dataset[Any], key: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        with_index(dataset, key=key)[3]


def test_fields_of_the_users_own_with_that_name_are_refused() -> None:
    class Numbered(OwnData):
        def __getitem__(self, index: int) -> Any:
            return {"index": 100 + index}

    with pytest.raises(InvalidOption, match=r"have an index of their own, 103. Rename that field"):
        with_index(Numbered())[3]


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_wrapping_twice_changes_nothing_and_two_countings_are_refused(form: str) -> None:
    dataset = with_index(OwnData(form))

    assert told(with_index(dataset)[3]) == 3
    assert type(with_index(dataset)[3]) is type(dataset[3])
    with pytest.raises(InvalidOption, match="wrap the data set only once"):
        with_index(ConcatDataset([dataset, dataset]))[COUNT + 1]


def test_a_data_set_that_reads_many_samples_at_once_still_does() -> None:
    asked: list[list[int]] = []

    class AtOnce(OwnData):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            asked.append(indices)
            return [self[index] for index in indices]

    batches = list(DataLoader(with_index(AtOnce("tuple")), batch_size=8, collate_fn=lambda items: items))

    assert [len(indices) for indices in asked] == [8, 8, 4]
    assert [told(item) for items in batches for item in items] == list(range(COUNT))
    assert [told(item) for item in batches[0][2:5]] == [2, 3, 4]


def test_what_the_data_set_knows_is_known_still() -> None:
    data = OwnData("dict")
    data.transform = None  # type: ignore[attr-defined]
    dataset: Any = with_index(data)

    dataset.transform = "set from outside"

    assert (dataset.form, dataset.source) == ("dict", WHOLE)
    assert data.transform == "set from outside"  # type: ignore[attr-defined]
    assert not hasattr(dataset, "classes")
    assert pickle.loads(pickle.dumps(dataset))[3]["index"] == 3
