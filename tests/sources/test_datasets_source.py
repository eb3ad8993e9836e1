import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from softlab.errors import InvalidOption, SourceError, UnreadableSample
from softlab.identity import source_fingerprint
from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.sources import Source, SourceOptions
from softlab.sources.folder import open_folder
from softlab.sources.subset import first
from softlab.testing.sources import SourceContract, assert_same_sample
from tests.modalities.images.batches import images_in
from tests.sources.pictures import animals, encoded, image_of, image_rows, picture, write_folder, write_parquet

DEMO = Path(__file__).parents[2] / "data/fashion_mnist/test"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library makes of files; of its progress nothing is shown."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def open_rows(path: str, **options: Any) -> Source:
    return open_source(SourceOptions(path=path, **options))


def fingerprint(source: Source) -> str:
    return source_fingerprint(source.keys, [source.read(index).content_hash for index in range(len(source))])


def reviews(folder: Path, *, rows: int = 5) -> str:
    """A CSV of texts, numbers and the names of classes."""
    lines = [f"n{row},review {row},{row / 4},{'good' if row % 2 else 'bad'}" for row in range(rows)]
    (folder / "reviews.csv").write_text("\n".join(["id,text,stars,mood", *lines]) + "\n")
    return f"datasets:csv:{folder}/reviews.csv"


TEXT = {"fields": {"text": "text", "stars": "stars"}, "label_column": "mood"}


class TestRowsOfACsv(SourceContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Source]:
        return lambda: open_rows(reviews(tmp_path), key_column="id", **TEXT)


class TestRowsOfASavedFolder(SourceContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Source]:
        animals(tmp_path / "animals")
        library_rows(f"datasets:imagefolder:{tmp_path}/animals").save_to_disk(tmp_path / "saved")
        return lambda: open_rows(f"datasets:{tmp_path}/saved")


def library_rows(path: str) -> Any:
    """As the library gives them."""
    _, reader, folder = path.split(":")
    return datasets.load_dataset(reader, data_dir=folder)["train"]


def test_a_parquet_file_opened_either_way_is_one_data_set() -> None:
    ours, theirs = first(open_rows(str(DEMO)), 300), first(open_rows(f"datasets:parquet:{DEMO}/*.parquet"), 300)

    assert fingerprint(theirs) == fingerprint(ours)
    assert theirs.class_names == ours.class_names
    np.testing.assert_array_equal(theirs.targets["label"], ours.targets["label"])


def test_a_folder_of_images_opened_either_way_is_one_data_set(tmp_path: Path) -> None:
    ours, theirs = open_folder(animals(tmp_path, per_class=12)), open_rows(f"datasets:imagefolder:{tmp_path}")

    assert list(theirs.keys) == list(ours.keys)
    assert fingerprint(theirs) == fingerprint(ours)
    assert (theirs.class_names, theirs.targets["label"].tolist()) == (ours.class_names, ours.targets["label"].tolist())


def test_a_copied_folder_is_the_same_data_set(tmp_path: Path) -> None:
    one, other = (f"datasets:imagefolder:{animals(tmp_path / name)}" for name in ("one", "other"))

    assert fingerprint(open_rows(one)) == fingerprint(open_rows(other))


def test_images_are_not_decoded_by_the_library(tmp_path: Path) -> None:
    source = open_rows(f"datasets:imagefolder:{animals(tmp_path)}")

    assert source.read(1).fields["image"] == (tmp_path / "cat/1.png").read_bytes()
    assert image_of(source, 1).shape == (3, 4, 6)


def test_texts_and_numbers_are_fields_and_texts_name_classes(tmp_path: Path) -> None:
    source = open_rows(reviews(tmp_path), key_column="id", **TEXT)

    fields = source.read(3).fields
    assert fields["text"] == "review 3"
    np.testing.assert_array_equal(fields["stars"], np.array(0.75), strict=True)
    assert list(source.keys) == ["n0", "n1", "n2", "n3", "n4"]
    assert source.class_names == ("bad", "good")
    assert source.targets["mood"].tolist() == [0, 1, 0, 1, 0]


def test_json_lines_and_a_csv_of_the_same_values_have_the_same_content_hashes(tmp_path: Path) -> None:
    table = open_rows(reviews(tmp_path), **TEXT)
    rows = [{"text": f"review {row}", "stars": row / 4, "mood": "good" if row % 2 else "bad"} for row in range(5)]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    lines = open_rows(f"datasets:json:{tmp_path}/*.jsonl", **TEXT)

    assert fingerprint(lines) == fingerprint(table)


def test_lines_of_text_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\nsecond\n")

    source = open_rows(f"datasets:text:{tmp_path}/a.txt", fields={"text": "text"})

    assert list(source.keys) == ["0", "1"]
    assert source.read(1).fields == {"text": "second"}
    assert not source.targets


def test_the_names_of_class_labels_are_kept_on_disk(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "mood": ClassLabel(names=["good", "bad"])})
    Dataset.from_dict({"text": ["a", "b"], "mood": [1, -1]}, features=features).save_to_disk(tmp_path / "saved")

    source = open_rows(f"datasets:{tmp_path}/saved", fields={"text": "text"}, label_column="mood")

    assert source.class_names == ("good", "bad")
    assert source.targets["mood"].tolist() == [1, -1]


def test_one_of_several_saved_splits_is_chosen_by_name(tmp_path: Path) -> None:
    parts = {name: Dataset.from_dict({"text": [name] * 3}) for name in ("train", "test")}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    path = f"datasets:{tmp_path}/saved"

    chosen = open_rows(path, fields={"text": "text"}, arguments={"split": "test"})

    assert chosen.read(0).fields == {"text": "test"}
    with pytest.raises(SourceError, match=r"has the splits train \(3 rows\), test .*arguments\.split = train`"):
        open_rows(path, fields={"text": "text"})
    with pytest.raises(InvalidOption, match=r"no split 'tests' \(there are: 'train', 'test'\)"):
        open_rows(path, fields={"text": "text"}, arguments={"split": "tests"})


def test_files_of_several_splits_are_refused_with_the_glob_of_each(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}-1.csv").write_text("text\na\n")

    with pytest.raises(SourceError, match=rf"source\.path = datasets:csv:{tmp_path}/test-1\.csv`"):
        open_rows(f"datasets:csv:{tmp_path}/*.csv", fields={"text": "text"})


def test_arguments_are_the_readers_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text;stars\na,b;3\n")

    source = open_rows(f"datasets:csv:{tmp_path}/a.csv", fields={"text": "text"}, arguments={"delimiter": ";"})

    assert source.read(0).fields == {"text": "a,b"}


def test_many_samples_are_read_at_once_as_they_are_one_by_one(tmp_path: Path) -> None:
    source: Any = open_rows(reviews(tmp_path), **TEXT)
    part: Any = first(source, 4)

    for index, sample in zip([4, 0, 4], source.read_many([4, 0, 4]), strict=True):
        assert_same_sample(sample, source.read(index))
    for index, sample in zip([3, 1], part.read_many([3, 1]), strict=True):
        assert_same_sample(sample, part.read(index))


def test_pickling_copies_no_rows(tmp_path: Path) -> None:
    rows = [{"bytes": encoded(picture(size=(200, 200))), "path": "a.png"}]
    source = open_rows(f"datasets:parquet:{write_parquet(tmp_path / 'a.parquet', rows)}")

    assert len(pickle.dumps(source)) < 5_000 < len(rows[0]["bytes"])


def test_an_image_that_has_gone_is_an_unreadable_sample(tmp_path: Path) -> None:
    source = open_rows(f"datasets:imagefolder:{animals(tmp_path)}")
    (tmp_path / "dog/1.png").unlink()

    with pytest.raises(UnreadableSample, match=r"row 3: sample 'dog/1\.png' can't be read: No such file"):
        source.read(3)


@pytest.mark.parametrize("row", [None, {"bytes": None, "path": None}])
def test_a_row_without_an_image_is_an_unreadable_sample(tmp_path: Path, row: Any) -> None:
    write_parquet(tmp_path / "a.parquet", [*image_rows(2), row])

    with pytest.raises(UnreadableSample, match=r"row 2: .*the row holds no image"):
        open_rows(f"datasets:parquet:{tmp_path}/a.parquet").read(2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, SourceError, "no column 'image' .*(There are: id, text, stars, mood.)"),
        ({"fields": {"text": "txt"}}, SourceError, "no column 'txt' .*Did you mean text?"),
        ({"fields": {"text": "text"}, "label_column": "stars"}, SourceError, "'stars' has type double, which can't be"),
        ({**TEXT, "key_column": "stars"}, SourceError, "keys are texts or integers. .*`source.key_column`"),
        ({**TEXT, "key_column": "mood"}, SourceError, "'bad', 'good' stand there more than once. Correct them"),
        ({**TEXT, "class_names": ("good",)}, SourceError, "the label 'bad' is none of the 1 class names"),
        ({**TEXT, "arguments": {"streaming": True}}, InvalidOption, "Leave out `source.arguments.streaming`"),
        ({**TEXT, "arguments": {"delimeter": ";"}}, SourceError, "delimeter.* Check `source.path`, and `source.arg"),
        (
            {**TEXT, "root": Path("data")},
            InvalidOption,
            "root is for torchvision's.* Leave out `source.root`",
        ),
    ],
)
def test_what_does_not_fit_a_table_is_refused(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(error, match=pattern):
        open_rows(reviews(tmp_path), **options)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("datasets:missing", SourceError, "no such folder. Give one that it wrote, or name a reader and a path"),
        ("datasets:animals", SourceError, "save_to_disk didn't write.*datasets:hub:OWNER/NAME"),
        ("datasets:csv:missing/*.csv", SourceError, "no such file or folder. Check `source.path`"),
        ("datasets:cvs:a.csv", InvalidOption, "datasets has no reader 'cvs'. Did you mean csv"),
        ("datasets:csv:broken.csv", SourceError, "broken.csv: datasets can't read it: "),
    ],
)
def test_an_address_with_nothing_behind_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, error: type[Exception], message: str
) -> None:
    write_folder(animals(tmp_path / "animals"), {"../broken.csv": b"a,b\n1,2,3,4\n1\n1,2,3,4,5\n"})
    monkeypatch.chdir(tmp_path)

    with pytest.raises(error, match=re.escape(message).replace(r"\.\*", ".*")):
        open_rows(path)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(InvalidOption) as caught:
        open_rows("datasets:csv:a.csv")

    assert str(caught.value).endswith("which isn't installed. Install it: pip install 'softlab[datasets]'.")


def test_opening_files_of_this_machine_is_told_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.load.get_session", lambda: pytest.fail("a server was asked"))

    assert len(open_rows(reviews(tmp_path), **TEXT)) == 5


@pytest.mark.process
def test_workers_read_the_rows_that_one_process_reads(tmp_path: Path) -> None:
    source = open_rows(f"datasets:imagefolder:{animals(tmp_path)}")
    order = in_sequence(0, len(source), batch_size=2)

    alone, shared = (
        BatchLoader(
            Aligned(source=source, inputs=(ImageInput(),)),
            device=torch.device("cpu"),
            options=LoaderOptions(workers=workers),
        )
        for workers in (0, 2)
    )

    for one, other in zip(alone.load(order), shared.load(order), strict=True):
        assert one.content_hashes == other.content_hashes
        assert images_in(one).equal(images_in(other))


def test_a_data_set_of_the_hub_is_asked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def load(name: str, **arguments: Any) -> Any:
        asked.append((name, arguments))
        return Dataset.from_dict({"text": ["a", "b"]})

    monkeypatch.setattr("datasets.load_dataset", load)

    source = open_rows("datasets:hub:team/reviews", fields={"text": "text"}, arguments={"split": "test"})

    assert asked == [("team/reviews", {"split": "test"})]
    assert (source.name, len(source)) == ("datasets:hub:reviews", 2)
