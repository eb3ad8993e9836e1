"""Samples that may be of several classes at once, from a column of lists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from softlab.errors import SourceError
from softlab.modalities.opening import open_source
from softlab.sources import Source, SourceOptions
from softlab.sources.known_classes import with_known_classes
from softlab.sources.label_sets import label_sets
from softlab.sources.subset import chosen


def open_lists(folder: Path, labels: Any, *, metadata: dict[str, str] | None = None, **options: Any) -> Source:
    column = labels if isinstance(labels, pa.Array) else pa.array(labels)
    table = pa.table({"text": [str(row) for row in range(len(column))], "label": column})
    pq.write_table(table.replace_schema_metadata(metadata), folder / "a.parquet")
    return open_source(SourceOptions(path=str(folder / "a.parquet"), fields={"text": "text"}, **options))


def sets_of(source: Source) -> list[list[int]]:
    found = label_sets(source)
    assert found is not None
    assert found.dtype == np.int8
    rows: list[list[int]] = found.tolist()
    return rows


@pytest.mark.parametrize(
    ("labels", "options", "sets", "names"),
    [
        ([[0, 2], [], [1]], {}, [[1, 0, 1], [0, 0, 0], [0, 1, 0]], None),
        ([[0], [1]], {"class_names": ("a", "b", "c")}, [[1, 0, 0], [0, 1, 0]], ("a", "b", "c")),
        ([["b", "a"], ["a"]], {}, [[1, 1], [1, 0]], ("a", "b")),
        ([["b"], ["a"]], {"class_names": ("b", "z", "a")}, [[1, 0, 0], [0, 0, 1]], ("b", "z", "a")),
        ([[0, 1], [1, 1]], {"label_vectors": True}, [[0, 1], [1, 1]], None),
        ([[0.0, 1.0], [1.0, 1.0]], {"label_vectors": True}, [[0, 1], [1, 1]], None),
        ([[False, True], [True, True]], {}, [[0, 1], [1, 1]], None),
        # Of a row without a list nothing is known.
        ([[1], None, [0]], {}, [[0, 1], [-1, -1], [1, 0]], None),
        ([[0, 1], None], {"label_vectors": True}, [[0, 1], [-1, -1]], None),
    ],
)
def test_lists_are_the_classes_of_a_sample(
    tmp_path: Path, labels: Any, options: dict[str, Any], sets: list[list[int]], names: tuple[str, ...] | None
) -> None:
    source = open_lists(tmp_path, labels, **options)

    assert sets_of(source) == sets
    assert source.class_names == names
    assert not source.targets, "none of them is the one class of a sample"


def test_names_in_the_hubs_metadata_are_those_of_the_lists(tmp_path: Path) -> None:
    values = {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}
    features = {"label": {"feature": values, "_type": "List"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}

    source = open_lists(tmp_path, [[0, 1], [1]], metadata=metadata)

    assert source.class_names == ("cat", "dog", "owl")
    assert sets_of(source) == [[1, 1, 0], [0, 1, 0]]


def test_lists_of_the_datasets_library_are_read_alike(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "tags": Sequence(ClassLabel(names=["cat", "dog", "owl"]))})
    rows = Dataset.from_dict({"text": ["a", "b"], "tags": [[2, 0], []]}, features=features)
    rows.save_to_disk(tmp_path / "saved")

    source = open_source(SourceOptions(path=f"datasets:{tmp_path}/saved", fields={"text": "text"}, label_column="tags"))

    assert source.class_names == ("cat", "dog", "owl")
    assert sets_of(source) == [[1, 0, 1], [0, 0, 0]]


def test_lists_of_several_files_are_counted_together(tmp_path: Path) -> None:
    for name, lists in {"a": [["b"]], "b": [["a", "c"]]}.items():
        pq.write_table(pa.table({"text": ["x"], "label": lists}), tmp_path / f"{name}.parquet")

    source = open_source(SourceOptions(path=str(tmp_path), fields={"text": "text"}))

    assert source.class_names == ("a", "b", "c")
    assert sets_of(source) == [[0, 1, 0], [1, 0, 1]]


def test_a_part_of_a_source_has_its_part_of_them(tmp_path: Path) -> None:
    source = open_lists(tmp_path, [[0], [1], [0, 1]])

    assert sets_of(chosen(source, np.array([2, 0]))) == [[1, 1], [1, 0]]


@pytest.mark.filterwarnings("ignore:.*classes aligned by name:softlab.errors.OddLabels")
def test_classes_go_by_name_to_those_that_are_known(tmp_path: Path) -> None:
    source = open_lists(tmp_path, [["b"], ["a", "b"], None])

    known = with_known_classes(source, ("z", "b", "a"), whose="the teacher")

    assert sets_of(known) == [[0, 1, 0], [0, 1, 1], [-1, -1, -1]]
    assert known.class_names == ("z", "b", "a")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([[0.5], [1.0]], {}, r"hold fractions, .* say `source\.label_vectors = true`"),
        ([[0, 1], [1]], {"label_vectors": True}, r"but have 1 to 2 places\. Correct them"),
        ([[0, 2]], {"label_vectors": True}, "hold other numbers than 0 and 1"),
        ([[0, -1]], {}, "label -1 in a list, expected 0 or more"),
        ([[0, 3]], {"class_names": ("a", "b")}, "label 3 in a list, expected 0 to 1 for its 2 class names"),
        ([["a", "x"]], {"class_names": ("a", "b")}, r"the labels 'x' are none of the 2 class names\. .*class_names"),
        ([[0, 1]], {"label_vectors": True, "class_names": ("a",)}, "over 2 classes, and there are 1 class names"),
        ([[0, None]], {}, "1 labels inside its lists are empty"),
    ],
)
def test_lists_that_are_no_labels_are_refused(
    tmp_path: Path, labels: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        open_lists(tmp_path, labels, **options)
