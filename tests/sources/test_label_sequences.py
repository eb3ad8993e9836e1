"""A label for each unit of a sample, as columns of lists hold it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import softlab
from softlab.errors import InvalidOption, OddLabels, SourceError, UnreadableSample
from softlab.sources.known_classes import with_known_classes
from softlab.sources.label_sequences import LabelSequences, label_sequences, read_label_sequences

LISTS = [["O", "B-PER"], [], None, ["B-PER", "", None, "O"]]
NUMBERS = [[1, 0], [], None, [0, -1, -1, 1]]
"""The same over B-PER and O."""


def sequences_of(lists: Sequence[Sequence[int] | None]) -> LabelSequences:
    cells = pa.array(lists, pa.list_(pa.int64()))
    return read_label_sequences("here", cells, known_names=None, class_names=())[0]


def lists_of(sequences: LabelSequences | None) -> list[list[int] | None]:
    assert sequences is not None
    found = (sequences.of(index) for index in range(len(sequences)))
    return [None if each is None else each.tolist() for each in found]


def opened(path: Path, labels: Any, *, words: Any = None, name: str = "tags", **options: Any) -> Any:
    texts = ["Hi Ann", ".", "No", "Ann , Bo !"] if words is None else words
    pq.write_table(pa.table({"text": texts, name: labels}), path)
    whole: dict[str, Any] = {"label_column": name, "label_sequences": True, "fields": {"text": "text"}} | options
    return softlab.open_source(softlab.SourceOptions(path=str(path), **whole), modality="text")


def test_names_are_numbered_in_their_order_and_what_is_empty_is_unknown(tmp_path: Path) -> None:
    source = opened(tmp_path / "tags.parquet", LISTS)

    assert source.class_names == ("B-PER", "O")
    assert lists_of(source.label_sequences) == NUMBERS
    assert not source.targets
    other = opened(tmp_path / "tags.parquet", LISTS, class_names=("O", "B-LOC", "B-PER"))
    assert lists_of(other.label_sequences)[0] == [0, 2]


def test_numbers_are_as_they_are_and_minus_100_is_unknown(tmp_path: Path) -> None:
    source = opened(tmp_path / "tags.parquet", [[3, -100], [], None, [0, None, -1, 2]])

    assert lists_of(source.label_sequences) == [[3, -1], [], None, [0, -1, -1, 2]]
    assert source.class_names is None


def test_several_files_are_one_source(tmp_path: Path) -> None:
    opened(tmp_path / "1.parquet", LISTS)
    opened(tmp_path / "2.parquet", LISTS[::-1])
    options = softlab.SourceOptions(
        path=str(tmp_path), label_column="tags", label_sequences=True, fields={"text": "text"}
    )

    source = softlab.open_source(options, modality="text")

    assert lists_of(label_sequences(source)) == NUMBERS + NUMBERS[::-1]


def test_datasets_give_the_same(tmp_path: Path) -> None:
    source = opened(tmp_path / "tags.parquet", LISTS)
    options = softlab.SourceOptions(
        path=f"datasets:parquet:{tmp_path}/tags.parquet",
        label_column="tags",
        label_sequences=True,
        fields={"text": "text"},
    )

    again = softlab.open_source(options, modality="text")

    assert lists_of(label_sequences(again)) == lists_of(source.label_sequences)
    assert again.class_names == source.class_names


def test_some_samples_have_their_own(tmp_path: Path) -> None:
    source = opened(tmp_path / "tags.parquet", LISTS, limit=2)

    assert lists_of(label_sequences(source)) == NUMBERS[:2]
    assert lists_of(sequences_of(NUMBERS).chosen(np.array([3, 2, 3]))) == [NUMBERS[3], None, NUMBERS[3]]


def test_they_are_counted_as_a_teacher_counts_classes(tmp_path: Path) -> None:
    source = opened(tmp_path / "tags.parquet", LISTS)

    with pytest.warns(OddLabels, match="classes aligned by name"):
        known = with_known_classes(source, ("O", "B-LOC", "B-PER"), whose="the teacher")

    assert lists_of(label_sequences(known)) == [[0, 2], [], None, [2, -1, -1, 0]]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 1, 2, 0], {}, "asks for a list of labels a sample, and the label column holds none"),
        ([[0.5]] * 4, {}, "its lists hold double, and labels of units are integers or names"),
        ([[-2]] * 4, {}, "label -2 in a list, expected 0 or more, or -100"),
        ([[5]] * 4, {"class_names": ("a", "b")}, "label 5 in a list, expected 0 to 1 for its 2 class names"),
        ([["c"]] * 4, {"class_names": ("a", "b")}, "the labels 'c' are none of the 2 class names"),
        ([[0]] * 4, {"label_column": "label"}, "asks for a list of labels a sample"),
    ],
)
def test_a_column_of_something_else_is_refused(
    tmp_path: Path, labels: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        opened(tmp_path / "tags.parquet", labels, **options)


def test_they_are_no_vectors_and_not_of_folders(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="Leave one of them out"):
        softlab.SourceOptions(path="here", label_vectors=True, label_sequences=True)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InvalidOption, match="a source of kind folder has no lists of labels"):
        softlab.open_source(softlab.SourceOptions(path=str(tmp_path), label_sequences=True))


def test_a_list_of_words_is_a_field_of_several_texts(tmp_path: Path) -> None:
    words = [["Hi", "Ann"], ["."], ["No"], ["Ann", ",", "Bo", "!"]]

    source = opened(tmp_path / "tags.parquet", LISTS, words=words)

    assert source.read(3).fields == {"text": ("Ann", ",", "Bo", "!")}


def test_a_list_with_an_empty_place_is_refused(tmp_path: Path) -> None:
    source = opened(tmp_path / "tags.parquet", [[0]] * 4, words=[["Hi", None], ["."], ["No"], ["!"]])

    with pytest.raises(UnreadableSample, match=r"sample '0' can't be read: the list of its text holds 1 empty places"):
        source.read(0)
