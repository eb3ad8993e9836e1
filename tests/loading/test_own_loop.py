"""A store's labels are found for any data set by key, and refused where data and store don't belong together."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softlab.errors import InvalidOption, SoftlabError, StoreMismatch
from softlab.loading.own_loop import Contents, align
from softlab.modalities.opening import open_source
from softlab.sources.options import SourceOptions
from softlab.sources.source import SkippedSample
from softlab.store import reader as store_reader
from softlab.store.reader import Store
from tests.loading.labelled import CLASS_NAMES, dump_rows, open_rows
from tests.loading.own_data import are_of
from tests.loading.seen import dump_what_is_seen, nameless
from tests.sources.pictures import encoded, image_rows, picture
from tests.teacher.dumping import Pictures

ROWS = image_rows(12)
KEYS = [row["path"] for row in ROWS]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("own")
    return dump_rows(folder / "store", open_rows(folder / "dumped.parquet", ROWS))


@pytest.fixture(params=["few", "very many"], autouse=True)
def how_many_samples_are_very_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many the keys are merged a block at a time."""
    if request.param == "very many":
        monkeypatch.setattr(store_reader, "LARGE_TABLE", 0)


def reader(numbers: Sequence[int], *, changed: Sequence[int] = ()) -> Contents:
    """What a user reads of the samples with these numbers; of some another picture."""
    return lambda index: (
        encoded(picture(seed=99)) if numbers[index] in changed else bytes(ROWS[numbers[index]]["bytes"])
    )


@pytest.mark.parametrize("verify", ["some", "all"])
@pytest.mark.parametrize("numbers", [list(range(12)), [7, 0, 11, 3, 1, 2, 4, 5, 6, 8, 10, 9]])
def test_each_sample_gets_its_own_labels_in_any_order_of_keys(store: Store, numbers: list[int], verify: Any) -> None:
    labels = align(store, [KEYS[number] for number in numbers], contents=reader(numbers), verify=verify)

    assert len(labels) == 12
    assert are_of(labels.read(range(12)), store, numbers)
    assert are_of(labels.read([5, 5, 0]), store, [numbers[5], numbers[5], numbers[0]])


def test_a_part_of_the_samples_is_enough_if_asked_for(store: Store) -> None:
    numbers = [9, 2, 4]
    labels = align(store, [KEYS[number] for number in numbers], contents=reader(numbers), verify="all", subset=True)

    assert len(labels) == 3
    assert are_of(labels.read([2, 1, 0]), store, [4, 2, 9])


def test_without_contents_keys_alone_are_compared(store: Store) -> None:
    assert are_of(align(store, KEYS[::-1]).read([0]), store, [11])


def test_any_sequence_of_texts_will_do_as_keys(store: Store) -> None:
    assert are_of(align(store, np.array(KEYS[::-1])).read([0]), store, [11])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (KEYS[2:], "has 12 samples, and 2 of them are not among your 10 keys: '0.png', '1.png'. Say subset=True"),
        (KEYS[5:], "are not among your 7 keys: '0.png', '1.png', '2.png' and 2 more. Say subset=True"),
        ([*KEYS, "x/0.png"], "1 of your 13 keys are of no sample: 'x/0.png'. Its own are such as '0.png', '1.png'"),
        ([f"train/{key}" for key in KEYS], "12 of your 12 keys are of no sample: 'train/0.png', .* and 9 more"),
        ([*KEYS, "7.png", "7.png"], "more than once, such as '7.png' at 7, 12, 13. Give each sample its own key"),
        ([*KEYS[:11], "0.png"], "more than once, such as '0.png' at 0, 11"),
    ],
)
def test_missing_foreign_and_repeated_keys_are_refused_and_named(store: Store, keys: list[str], message: str) -> None:
    with pytest.raises(StoreMismatch, match=message):
        align(store, keys)


@pytest.mark.parametrize("keys", [[*KEYS[1:], "x/0.png"], [KEYS[1], KEYS[1]]])
def test_a_part_may_hold_no_foreign_or_repeated_key_either(store: Store, keys: list[str]) -> None:
    with pytest.raises(StoreMismatch, match=r"no sample|more than once"):
        align(store, keys, subset=True)


@pytest.mark.parametrize("verify", ["some", "all"])
def test_changed_contents_are_refused_and_named(store: Store, verify: Any) -> None:
    contents = reader(range(12), changed=[5])

    with pytest.raises(StoreMismatch, match=r"sample '5.png' of your data set .* content hash differs. Let contents="):
        align(store, KEYS, contents=contents, verify=verify)


def test_the_same_samples_in_another_order_under_the_same_keys_are_refused(store: Store) -> None:
    """What happens where somebody lists keys in one order and loads samples in another."""
    with pytest.raises(StoreMismatch, match="content hash differs"):
        align(store, KEYS, contents=reader(range(11, -1, -1)))


def test_contents_of_several_fields_are_hashed_as_the_source_hashes_them(tmp_path: Path) -> None:
    images, texts = [row["bytes"] for row in ROWS], [f"picture {number}" for number in range(12)]
    table = pa.table({"image": pa.array(images, pa.binary()), "text": texts, "n": np.arange(12, dtype=np.int16)})
    pq.write_table(table, tmp_path / "several.parquet")
    fields = {"image": "image", "text": "text", "n": "n"}
    source = open_source(SourceOptions(path=str(tmp_path / "several.parquet"), fields=fields))
    store, keys = dump_rows(tmp_path / "store", source), [f"{number:02}" for number in range(12)]

    def contents(index: int) -> dict[str, Any]:
        return {"image": images[index], "text": texts[index], "n": np.array(index, dtype=np.int16)}

    assert are_of(align(store, keys, contents=contents, verify="all").read([3]), store, [3])
    with pytest.raises(StoreMismatch, match="sample '00'"):
        align(store, keys, contents=lambda index: contents(index) | {"text": "another"}, verify="all")


def test_a_source_of_softlab_stands_for_keys_and_contents(store: Store, tmp_path: Path) -> None:
    backwards = open_rows(tmp_path / "backwards.parquet", ROWS[::-1])
    changed = open_rows(tmp_path / "changed.parquet", [*ROWS[:11], {"bytes": encoded(picture()), "path": "11.png"}])
    renamed = open_rows(tmp_path / "renamed.parquet", ROWS, class_names=(*CLASS_NAMES[:3], "dgo"))

    assert are_of(align(store, backwards, verify="all").read([0, 1]), store, [11, 10])
    with pytest.raises(StoreMismatch, match=r"sample '11.png' of parquet:changed.parquet .* Give the very samples"):
        align(store, changed)
    with pytest.raises(StoreMismatch, match="Did you mean dog"):
        align(store, renamed)


def test_no_message_names_a_flag_of_the_command_line(store: Store, tmp_path: Path) -> None:
    contents = reader(range(12), changed=range(12))
    wrong: list[Callable[[], object]] = [
        lambda: align(store, KEYS[1:]),
        lambda: align(store, ["a"]),
        lambda: align(store, KEYS, contents=contents),
        lambda: align(store, open_rows(tmp_path / "part.parquet", ROWS[1:])),
    ]

    for call in wrong:
        with pytest.raises(SoftlabError) as caught:
            call()
        assert "--" not in str(caught.value)


def test_row_numbers_as_keys_say_nothing_about_the_order_of_samples(tmp_path: Path) -> None:
    nameless_rows = [{"bytes": row["bytes"], "path": None} for row in ROWS]
    pq.write_table(pa.table({"image": [row["bytes"] for row in nameless_rows]}), tmp_path / "nameless.parquet")
    source = open_source(SourceOptions(path=str(tmp_path / "nameless.parquet")))
    store, keys = dump_rows(tmp_path / "store", source), [f"{number:02}" for number in range(12)]

    with pytest.raises(StoreMismatch, match=r"row numbers, .* in another order would have too. Give contents="):
        align(store, keys)
    assert are_of(align(store, keys, contents=reader(range(12))).read([7]), store, [7])
    assert are_of(align(store, keys, verify="keys").read([7]), store, [7])
    assert are_of(align(store, source).read([7]), store, [7])


def test_a_store_of_augmented_views_is_refused_unless_that_is_meant(tmp_path: Path) -> None:
    source = nameless(8)
    store = dump_what_is_seen(tmp_path / "store", source, num_views=2)

    with pytest.raises(
        StoreMismatch, match=r"augmented views \(RandomCrop.* only softlab.ViewDataset\(source, store\)"
    ):
        align(store, source.keys)
    labels = align(store, source.keys, views_mismatch="allow")
    labels.set_epoch(1)
    assert are_of(labels.read([3]), store, [3], view=1)


def test_samples_that_the_teacher_left_out_are_to_be_left_out_too(tmp_path: Path) -> None:
    skipped = (SkippedSample(key="broken.png", reason="truncated"),)
    store = dump_rows(tmp_path / "store", Pictures(count=4, class_names=None, skipped=skipped))

    with pytest.raises(StoreMismatch, match=r"left out 1 unreadable samples, such as 'broken.png'. Leave them out"):
        align(store, [*Pictures(count=4).keys, "broken.png"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": [0, 1, 2]}, "keys are a list of texts, one a sample, but here is 0, of type int"),
        ({"keys": "0.png"}, "but here is '0.png', of type str"),
        ({"keys": KEYS, "verify": "all"}, "verify='all' compares contents. Give contents="),
        ({"keys": KEYS, "contents": lambda index: [1, 2]}, r"gave a list for sample \d+. Return bytes"),
        ({"keys": Pictures(), "contents": lambda index: b""}, "a source reads its own contents"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(store: Store, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        align(store, **arguments)


def test_without_keys_an_index_means_nothing(store: Store) -> None:
    labels = align(store)

    assert labels.find(["7.png", "0.png"]).tolist() == [7, 0]
    with pytest.raises(InvalidOption, match=r"aligned without keys.*with_index\(data set, key=...\)"):
        labels.read([0])
