import json
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softlab.errors import SourceError, UnreadableSample
from softlab.sources import Source, parquet
from softlab.sources.parquet import find_parquet_files
from softlab.testing.sources import SourceContract
from tests.sources.pictures import IMAGE_TYPE, encoded, image_of, image_rows, picture, truncated_png, write_parquet


def hub_metadata(*names: str) -> dict[str, str]:
    """As the Hugging Face `datasets` library writes it."""
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def open_parquet(
    path: Path | str, *, image_column: str = "image", label_column: str = "label", fields: dict[str, str] | None = None
) -> parquet.ParquetSource:
    return parquet.open_parquet(str(path), fields=fields or {"image": image_column}, label_column=label_column)


class TestParquetSource(SourceContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Source]:
        write_parquet(tmp_path / "a.parquet", image_rows(5), labels=[0, 1, 2, 0, 1])
        return lambda: open_parquet(tmp_path / "a.parquet")


class TestParquetSourceThatDoesNotFitInMemory(TestParquetSource):
    @pytest.fixture(autouse=True)
    def _no_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquet, "MAX_CACHED_BYTES", 1)


@pytest.mark.parametrize("where", ["", "*.parquet"])
def test_a_folder_and_a_glob_give_the_rows_of_all_files_in_order(tmp_path: Path, where: str) -> None:
    rows = image_rows(7)
    write_parquet(tmp_path / "b.parquet", rows[3:], labels=[3, 4, 5, 6])
    write_parquet(tmp_path / "a.parquet", rows[:3], labels=[0, 1, 2])

    source = open_parquet(tmp_path / where)

    assert source.keys == [f"{number}.png" for number in range(7)]
    assert source.targets["label"].tolist() == list(range(7))
    assert [source.read(number).fields["image"] for number in range(7)] == [row["bytes"] for row in rows]


def test_a_plain_binary_column_has_row_checks_for_keys(tmp_path: Path) -> None:
    images = [encoded(picture(seed=number)) for number in range(11)]
    pq.write_table(pa.table({"jpg": pa.array(images, type=pa.large_binary())}), tmp_path / "a.parquet")

    source = open_parquet(tmp_path / "a.parquet", image_column="jpg")

    assert source.keys[0] == "00"
    assert source.keys[10] == "10"
    assert source.read(10).fields["image"] == images[10]


@pytest.mark.parametrize("paths", [["a.png", None], ["a.png", "a.png"], ["a.png", ""]])
def test_paths_that_are_missing_or_repeated_are_no_keys(tmp_path: Path, paths: list[str | None]) -> None:
    rows = [{"bytes": b"", "path": path} for path in paths]

    assert open_parquet(write_parquet(tmp_path / "a.parquet", rows)).keys == ["0", "1"]


def test_without_a_label_column_targets_are_unknown(tmp_path: Path) -> None:
    source = open_parquet(write_parquet(tmp_path / "a.parquet", image_rows(2)))

    assert not source.targets
    assert source.class_names is None


def test_a_row_without_a_label_has_an_unknown_target(tmp_path: Path) -> None:
    source = open_parquet(write_parquet(tmp_path / "a.parquet", image_rows(3), labels=[1, None, -1]))

    assert source.targets["label"].tolist() == [1, -1, -1]


def test_class_names_come_from_the_hub_metadata(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", image_rows(2), labels=[1, 0], metadata=hub_metadata("cat", "dog"))

    assert open_parquet(path).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "metadata",
    [
        "no JSON",
        "{}",
        '{"info": {"features": {}}}',
        '{"info": {"features": {"label": {"dtype": "int64", "_type": "Value"}}}}',
        '{"info": {"features": {"label": [1]}}}',
    ],
)
def test_metadata_without_class_names_leave_them_unknown(tmp_path: Path, metadata: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", image_rows(2), labels=[1, 0], metadata={"huggingface": metadata})

    assert open_parquet(path).class_names is None


def test_pickling_copies_no_images(tmp_path: Path) -> None:
    rows = [{"bytes": encoded(picture(size=(200, 200))), "path": "a.png"}]
    source = open_parquet(write_parquet(tmp_path / "a.parquet", rows))
    source.read(0)

    assert len(pickle.dumps(source)) < 5_000 < len(rows[0]["bytes"])


def test_a_corrupt_image_is_found_when_it_is_decoded_and_not_before(tmp_path: Path) -> None:
    rows: list[Any] = image_rows(5)
    rows[3] = {"bytes": truncated_png(), "path": "bad.png"}
    source = open_parquet(write_parquet(tmp_path / "a.parquet", rows))

    with pytest.raises(UnreadableSample, match=r"a\.parquet, row 3: sample 'bad\.png'.*`source\.skip_unreadable"):
        image_of(source, 3)


@pytest.mark.parametrize("row", [None, {"bytes": None, "path": "elsewhere.png"}])
def test_a_row_without_image_bytes_is_an_unreadable_sample(tmp_path: Path, row: Any) -> None:
    source = open_parquet(write_parquet(tmp_path / "a.parquet", [*image_rows(2), row]))

    with pytest.raises(UnreadableSample, match=r"row 2: .*the row holds no image"):
        source.read(2)


def test_a_label_outside_the_class_names_is_refused_with_its_row(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", image_rows(3), labels=[0, 1, 2], metadata=hub_metadata("cat", "dog"))

    with pytest.raises(SourceError, match=r"a\.parquet, row 2: label 2, expected 0 to 1 .*Correct the 1 such rows"):
        open_parquet(path)


def test_files_with_different_class_names_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", image_rows(1), labels=[0], metadata=hub_metadata("cat", "dog"))
    write_parquet(tmp_path / "b.parquet", image_rows(1), labels=[0], metadata=hub_metadata("dog", "cat"))

    with pytest.raises(SourceError, match=r"b\.parquet: .* not those of a\.parquet\. Give `source.path` files of one"):
        open_parquet(tmp_path)


@pytest.mark.parametrize(
    ("column", "next_step"),
    [
        (
            {"image_column": "imgae"},
            r"no column 'imgae' for the field 'image'\. Did you mean image\? \(There are: image, label, taken\.\).*"
            r"`source.image_column`",
        ),
        (
            {"fields": {"when": "taken"}},
            r"'taken' for the field 'when' has type date32\[day\], expected binary.*label \(int64\), "
            r"taken \(date32\[day\]\).*`source.fields.when`",
        ),
        ({"label_column": "lable"}, r"'lable' is not there\. Did you mean label\?.*`source.label_column`"),
        ({"label_column": "image"}, r"'image' has type struct.*`source.label_column`"),
    ],
)
def test_a_column_that_is_missing_or_of_the_wrong_type_is_refused(
    tmp_path: Path, column: dict[str, Any], next_step: str
) -> None:
    path = write_parquet(tmp_path / "a.parquet", image_rows(2), labels=[0, 1])
    table = pq.read_table(path)
    pq.write_table(table.append_column("taken", pa.array([1, 2], pa.date32())), path)

    with pytest.raises(SourceError, match=next_step):
        open_parquet(path, **column)


def write_labels(path: Path, labels: Any, **columns: Any) -> Path:
    images = pa.array(image_rows(len(labels)), type=IMAGE_TYPE)
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), path)
    return path


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["dog", None, "cat"]),
        pa.array(["dog", None, "cat"], pa.large_string()),
        pa.array(["dog", None, "cat"]).dictionary_encode(),
    ],
)
def test_labels_that_are_texts_are_classes_in_sorted_order(tmp_path: Path, labels: Any) -> None:
    source = open_parquet(write_labels(tmp_path / "a.parquet", labels))

    assert source.targets["label"].tolist() == [1, -1, 0]
    assert source.class_names == ("cat", "dog")


def test_labels_that_are_true_or_false_are_two_classes(tmp_path: Path) -> None:
    source = open_parquet(write_labels(tmp_path / "a.parquet", pa.array([True, False, None])))

    assert source.targets["label"].tolist() == [1, 0, -1]
    assert source.class_names == ("false", "true")


def test_texts_of_several_files_are_counted_together_and_in_the_order_given(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.parquet", pa.array(["b"]))
    write_labels(tmp_path / "b.parquet", pa.array(["a", "c"]))
    fields = {"image": "image"}

    together = open_parquet(tmp_path)
    ordered = parquet.open_parquet(str(tmp_path), fields=fields, label_column="label", class_names=("c", "b", "a", "z"))

    assert (together.targets["label"].tolist(), together.class_names) == ([1, 0, 2], ("a", "b", "c"))
    assert (ordered.targets["label"].tolist(), ordered.class_names) == ([1, 2, 0], ("c", "b", "a", "z"))
    with pytest.raises(SourceError, match=r"label 'b' is none of the 2 class names\..*`source.class_names`"):
        parquet.open_parquet(str(tmp_path), fields=fields, label_column="label", class_names=("a", "c"))


@pytest.mark.parametrize("labels", [pa.array([0.5, 1.0]), pa.array([{"a": 0}, {"a": 1}])])
def test_labels_of_another_type_are_refused_with_the_columns_that_would_do(tmp_path: Path, labels: Any) -> None:
    path = write_labels(tmp_path / "a.parquet", labels, breed=pa.array(["x", "y"]), y=pa.array([0, 1]))

    with pytest.raises(SourceError, match=r"'label' has type .* Known: y, breed\. .*`source.label_column`"):
        open_parquet(path)


def test_captions_are_no_classes(tmp_path: Path) -> None:
    images = [b""] * 101
    pq.write_table(pa.table({"image": images, "label": [f"text {row}" for row in range(101)]}), tmp_path / "a.parquet")

    with pytest.raises(SourceError, match=r"101 different texts in 101 rows.*`source.label_column`"):
        open_parquet(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"],
        ["train/0000", "train/0001", "test/0000"],
        ["train", "validation"],
    ],
)
def test_files_of_several_splits_are_refused_with_a_path_that_works(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_parquet(tmp_path / f"{name}.parquet", image_rows(1), labels=[0])
    path = str(tmp_path / "**/*.parquet")

    with pytest.raises(SourceError, match="splits") as caught:
        open_parquet(path)

    first = re.findall(r"`source.path = ([^`]+)`", str(caught.value))
    trains = [each for each in first if "train" in each]
    assert len(open_parquet(trains[0])) == sum(name.startswith("train") for name in names)


# Fields of other kinds.


def write_fields(path: Path) -> Path:
    columns = {
        "text": pa.array(["one", "zwölf"]),
        "audio": pa.array([b"ab", b"cd"]),
        "count": pa.array([3, 4], pa.int16()),
        "vector": pa.array([[0.5, 1.0], [2.0]], pa.list_(pa.float32())),
        "pair": pa.array([[1, 2], [3, 4]], pa.list_(pa.uint8(), 2)),
    }
    pq.write_table(pa.table(columns), path, row_group_size=1)
    return path


def test_a_field_is_bytes_text_or_numbers_as_its_column_is(tmp_path: Path) -> None:
    names = ["text", "audio", "count", "vector", "pair"]
    source = open_parquet(write_fields(tmp_path / "a.parquet"), fields={f"the {name}": name for name in names})

    fields = source.read(1).fields

    assert source.field_names == tuple(fields) == ("the text", "the audio", "the count", "the vector", "the pair")
    assert (fields["the text"], fields["the audio"]) == ("zwölf", b"cd")
    for name, expected in [
        ("count", np.array(4, np.int16)),
        ("vector", np.array([2.0], np.float32)),
        ("pair", np.array([3, 4], np.uint8)),
    ]:
        np.testing.assert_array_equal(fields[f"the {name}"], expected, strict=True)


@pytest.mark.parametrize("kind", ["int8", "uint64", "float16", "float32", "float64", "bool"])
def test_a_column_of_numbers_is_read_alike_with_and_without_gaps(tmp_path: Path, kind: str) -> None:
    """Without gaps it lies in memory as a numpy array."""
    whole = pa.array(np.array([0, 1, 1, 0], kind))
    pq.write_table(pa.table({"number": whole}), tmp_path / "whole.parquet")
    pq.write_table(pa.table({"number": pa.concat_arrays([whole, pa.nulls(1, whole.type)])}), tmp_path / "gaps.parquet")
    fast, slow = (
        open_parquet(str(tmp_path / name), fields={"n": "number"}) for name in ("whole.parquet", "gaps.parquet")
    )

    for row in range(4):
        np.testing.assert_array_equal(fast.read(row).fields["n"], slow.read(row).fields["n"], strict=True)
        assert fast.read(row).content_hash == slow.read(row).content_hash
    with pytest.raises(UnreadableSample, match="the row holds no n"):
        slow.read(4)


def test_the_content_hash_covers_all_fields_and_no_other_column(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.parquet")
    fields = {"text": "text", "vector": "vector"}
    before = open_parquet(path, fields=fields).read(0).content_hash
    table = pq.read_table(path)

    pq.write_table(table.set_column(1, "audio", pa.array([b"other", b"cd"])), path)
    assert open_parquet(path, fields=fields).read(0).content_hash == before

    pq.write_table(table.set_column(0, "text", pa.array(["One", "zwölf"])), path)
    assert open_parquet(path, fields=fields).read(0).content_hash != before


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([None, "b"]), "the row holds no text"),
        (pa.array([[1, None], [2]]), "the list of its text holds 1 empty places"),
    ],
)
def test_a_row_that_lacks_a_field_is_an_unreadable_sample(tmp_path: Path, column: Any, reason: str) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    source = open_parquet(tmp_path / "a.parquet", fields={"text": "text"})

    with pytest.raises(UnreadableSample, match=rf"row 0: .*{reason}"):
        source.read(0)
    assert source.read(1).key == "1"


class TestParquetSourceOfSeveralFields(SourceContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Source]:
        rows = {"text": ["a", "b", "c", "d"], "vector": [[1.0], [2.0, 3.0], [], [4.0]], "label": [0, 1, 0, 1]}
        pq.write_table(pa.table(rows), tmp_path / "a.parquet")
        return lambda: open_parquet(tmp_path / "a.parquet", fields={"vector": "vector", "text": "text"})


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", image_rows(2))
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(SourceError, match=r"a\.parquet: can't be read as Parquet: .*Check the file, or get it again"):
        open_parquet(path)


def test_damage_under_a_page_checksum_is_found_when_the_row_group_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = image_rows(2)
    pq.write_table(
        pa.table({"image": rows}),
        path,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    data = path.read_bytes()
    position = data.index(rows[1]["bytes"]) + 40
    path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    source = open_parquet(path)

    with pytest.raises(SourceError, match="Check the file, or get it again"):
        source.read(0)


def test_a_path_with_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"check `source\.path`"):
        open_parquet(tmp_path / "nothing")


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a[1].parquet", image_rows(1))

    assert find_parquet_files(str(path)) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't allow such names")
def test_a_file_whose_name_is_not_utf_8_is_read_like_any_other(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", image_rows(3)).rename(tmp_path / os.fsdecode(b"caf\xe9.parquet"))

    source = open_parquet(path)

    assert source.name == r"parquet:caf\xe9.parquet"
    assert source.read(2).fields == {"image": encoded(picture(seed=2))}


def test_a_column_names_the_samples(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [7, 3], "text": ["a", "b"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [9], "text": ["c"]}), tmp_path / "b.parquet")

    source = parquet.open_parquet(str(tmp_path), fields={"text": "text"}, label_column="label", key_column="id")

    assert list(source.keys) == ["7", "3", "9"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [(["a", "b", "a"], "'a' stand there more than once"), (["a", None, ""], "2 rows have none")],
)
def test_keys_that_are_missing_or_repeated_are_refused(tmp_path: Path, keys: list[Any], message: str) -> None:
    pq.write_table(pa.table({"id": keys, "text": ["a", "b", "c"]}), tmp_path / "a.parquet")

    with pytest.raises(SourceError, match=rf"the column 'id' must name one row each, and {message}\. Correct them"):
        parquet.open_parquet(str(tmp_path), fields={"text": "text"}, label_column="label", key_column="id")
