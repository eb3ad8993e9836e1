from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from softlab.errors import OddLabels, StoreMismatch
from softlab.loading.aligned import beside_store
from softlab.loading.sample_check import HASHED_AT_START, align, comparable_targets, with_stored_classes
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sources.options import SourceOptions
from softlab.store import reader
from softlab.store.reader import Store, open_store
from tests.loading.labelled import CLASS_NAMES, NUM_CLASSES, Row, dump_rows, open_rows
from tests.sources.pictures import animals, encoded, image_rows, picture
from tests.teacher.dumping import Pictures

ROWS = image_rows(12)
OTHER_PICTURE = encoded(picture(seed=99))
DUMP_AGAIN = "Point `source.path` at the data the teacher saw, or dump again"


def changed(rows: list[Row], number: int) -> list[Row]:
    """With another picture under the same key."""
    return [row | {"bytes": OTHER_PICTURE} if at == number else row for at, row in enumerate(rows)]


@pytest.fixture(params=["few", "very many"], autouse=True)
def how_many_samples_are_very_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many the keys are merged a block at a time."""
    if request.param == "very many":
        monkeypatch.setattr(reader, "LARGE_TABLE", 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return dump_rows(tmp_path / "store", open_rows(tmp_path / "dumped.parquet", ROWS))


def test_the_source_that_was_dumped_is_matched_sample_by_sample(store: Store, tmp_path: Path) -> None:
    source = open_rows(tmp_path / "again.parquet", ROWS)

    assert align(source, store).tolist() == list(range(12))


def test_a_copy_elsewhere_and_in_another_form_is_the_same_source(tmp_path: Path) -> None:
    """Keys and contents count, not where the files are."""
    store = dump_rows(tmp_path / "store", open_source(SourceOptions(path=str(animals(tmp_path / "here")))))

    copy = open_source(SourceOptions(path=str(animals(tmp_path / "there"))))
    assert align(copy, store, verify="all").tolist() == list(range(4))


@pytest.mark.parametrize("verify", ["some", "all"])
def test_part_of_the_samples_in_any_order_is_matched_by_key_if_asked_for(
    store: Store, tmp_path: Path, verify: str
) -> None:
    numbers = [7, 0, 11, 3]
    source = open_rows(tmp_path / "part.parquet", [ROWS[number] for number in numbers])

    found = align(source, store, subset=True, verify="all" if verify == "all" else "some")
    assert found.tolist() == numbers
    assert found.dtype == np.int64


def test_all_samples_in_another_order_are_matched_by_key_as_a_subset(store: Store, tmp_path: Path) -> None:
    source = open_rows(tmp_path / "reversed.parquet", ROWS[::-1])

    assert align(source, store, subset=True, verify="all").tolist() == list(range(12))[::-1]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (ROWS[:-1], "made from 12 samples, but parquet:other.parquet has 11"),
        (ROWS[::-1], "has 12 in another order"),
    ],
)
def test_fewer_or_reordered_samples_are_refused_with_the_option_that_allows_them(
    store: Store, tmp_path: Path, rows: list[Row], found: str
) -> None:
    source = open_rows(tmp_path / "other.parquet", rows)

    with pytest.raises(StoreMismatch, match=f"{found}.*{DUMP_AGAIN}, or say `check.subset = true`"):
        align(source, store)


def test_whoever_can_train_on_no_subset_is_told_another_next_step(store: Store, tmp_path: Path) -> None:
    source = open_rows(tmp_path / "other.parquet", ROWS[:-1])

    with pytest.raises(StoreMismatch, match=r"has 11\. Point elsewhere\.$"):
        align(source, store, next_step="Point elsewhere.")


def test_of_a_part_that_was_pulled_the_keys_are_asked_for_where_the_source_has_all_of_them(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("".join(f"{key}\n" for key in open_rows(tmp_path / "some.parquet", ROWS[:5]).keys))
    part = open_store(pull(tmp_path / "store", tmp_path / "part", PullOptions(samples=tmp_path / "keys")).out)

    with pytest.raises(StoreMismatch, match=r"Give `source.keys` the file of keys that the store was pulled with"):
        align(open_rows(tmp_path / "all.parquet", ROWS), part)
    with pytest.raises(StoreMismatch, match=f"{DUMP_AGAIN}\\.$"):
        align(open_rows(tmp_path / "others.parquet", ROWS[1:]), part)


@pytest.mark.parametrize("subset", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: [*rows, image_rows(13)[12]], id="one more"),
        pytest.param(lambda rows: [*rows[:-1], image_rows(13)[12]], id="another one"),
        pytest.param(lambda rows: [row | {"path": row["path"].replace("11", "12")} for row in rows], id="renamed"),
    ],
)
def test_a_sample_that_the_teacher_did_not_see_is_refused_and_named(
    store: Store, tmp_path: Path, change: Callable[[list[Row]], list[Row]], subset: bool
) -> None:
    source = open_rows(tmp_path / "other.parquet", change(ROWS))

    with pytest.raises(StoreMismatch, match=f"1 of them unknown to the store, such as '12.png'. {DUMP_AGAIN}\\.$"):
        align(source, store, subset=subset)


@pytest.mark.parametrize("subset", [False, True])
def test_a_changed_picture_is_refused_and_named(store: Store, tmp_path: Path, subset: bool) -> None:
    source = open_rows(tmp_path / "other.parquet", changed(ROWS, 5))

    with pytest.raises(StoreMismatch, match=f"sample '5.png' .* content hash differs. {DUMP_AGAIN}"):
        align(source, store, subset=subset)


def test_two_pictures_that_changed_places_are_refused(store: Store, tmp_path: Path) -> None:
    rows = [row | {"bytes": ROWS[(at + 1) % 12]["bytes"]} for at, row in enumerate(ROWS)]

    with pytest.raises(StoreMismatch, match=DUMP_AGAIN):
        align(open_rows(tmp_path / "other.parquet", rows), store)


@pytest.mark.parametrize("number", [0, 123, 299])
def test_verifying_all_finds_one_change_among_many(tmp_path: Path, number: int) -> None:
    rows = image_rows(300)
    store = dump_rows(tmp_path / "store", open_rows(tmp_path / "dumped.parquet", rows), shard_rows=None)
    source = open_rows(tmp_path / "other.parquet", changed(rows, number))

    with pytest.raises(StoreMismatch, match=f"sample '{number}.png'"):
        align(source, store, verify="all")


def test_verifying_some_finds_a_source_that_was_encoded_anew(tmp_path: Path) -> None:
    rows = image_rows(300)
    assert len(rows) > HASHED_AT_START
    store = dump_rows(tmp_path / "store", open_rows(tmp_path / "dumped.parquet", rows), shard_rows=None)
    bitmaps = [row | {"bytes": encoded(picture(seed=number), form="BMP")} for number, row in enumerate(rows)]

    with pytest.raises(StoreMismatch, match=DUMP_AGAIN):
        align(open_rows(tmp_path / "other.parquet", bitmaps), store)


@pytest.mark.parametrize("subset", [False, True])
def test_class_names_that_the_store_lacks_are_refused(store: Store, tmp_path: Path, subset: bool) -> None:
    source = open_rows(tmp_path / "other.parquet", ROWS, class_names=("ant", "bee", "cat", "cow"))

    with pytest.raises(StoreMismatch, match=r"'cow' is none of the 4 classes of .*store \(ant, bee, cat, dog\)"):
        beside_store(source, store, (ImageInput(),), subset=subset)


def test_a_source_that_lacks_a_class_is_aligned_by_name(store: Store, tmp_path: Path) -> None:
    """Its second class is the store's third."""
    rows = [row for row in ROWS if int(Path(row["path"]).stem) % NUM_CLASSES < 2]
    source = open_rows(tmp_path / "lacking.parquet", rows, class_names=("ant", "cat"))

    with pytest.warns(OddLabels, match="2 of 4 there, 'bee', 'dog' have no samples"):
        aligned = beside_store(source, store, (ImageInput(),), subset=True)

    assert aligned.targets_N is not None
    assert aligned.targets_N.tolist() == [0, 2] * 3


def test_new_classes_come_behind_those_of_the_store(store: Store, tmp_path: Path) -> None:
    more = open_rows(tmp_path / "more.parquet", ROWS, class_names=(*CLASS_NAMES, "eel"))
    before = open_rows(tmp_path / "before.parquet", ROWS, class_names=("aal", *CLASS_NAMES))

    assert with_stored_classes(more, store, new_classes=True) is more
    with pytest.raises(StoreMismatch, match=r"begin with the 4 of .*store, in their order .* the new ones last"):
        with_stored_classes(before, store, new_classes=True)


def test_letters_that_count_from_1_behind_no_class_are_those_of_a_teacher_without_it() -> None:
    targets_N, names = np.array([1, 26, -1, 3]), ("N/A", *"abcdefghijklmnopqrstuvwxyz")
    letters = Pictures(count=4, class_names=names, targets_N=targets_N)

    counted = comparable_targets(letters, num_classes=26)

    assert counted is not None
    assert counted.tolist() == [0, 25, -1, 2]
    assert comparable_targets(letters, num_classes=27) is targets_N
    assert comparable_targets(letters, num_classes=25) is None
    with_some = Pictures(count=4, class_names=names, targets_N=np.array([0, 26, -1, 3]))
    assert comparable_targets(with_some, num_classes=26) is None


def test_another_number_of_classes_without_a_common_name_are_others(store: Store, tmp_path: Path) -> None:
    source = open_rows(tmp_path / "other.parquet", ROWS, class_names=("ash", "elm", "fir", "oak", "yew"))

    assert align(source, store).tolist() == list(range(12))


def test_class_names_count_only_where_both_sides_have_some(store: Store, tmp_path: Path) -> None:
    source = open_rows(tmp_path / "nameless.parquet", ROWS, class_names=None)

    assert align(source, store).tolist() == list(range(12))
