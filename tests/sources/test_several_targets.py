"""Samples with several hard targets: a label column for each task."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softlab.errors import InvalidOption
from softlab.modalities.opening import open_source
from softlab.sources import Source
from softlab.sources.options import SourceOptions
from softlab.sources.several_targets import target_class_names, with_one_target
from softlab.sources.source import hard_targets
from softlab.sources.subset import first
from softlab.testing.sources import SourceContract
from tests.sources.pictures import image_rows


def write(path: Path, **columns: Any) -> Path:
    """Five pictures with these columns."""
    rows = pa.array(image_rows(5))
    pq.write_table(pa.table({"image": rows} | {name: pa.array(column) for name, column in columns.items()}), path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "a.parquet", species=["cat", "dog", None, "cat", "ant"], size=[0, 2, 1, None, 1])


def open_both(file: Path, **options: Any) -> Source:
    return open_source(SourceOptions(path=str(file), label_columns=("species", "size"), **options))


class TestSeveralTargets(SourceContract):
    @pytest.fixture
    def reopen(self, file: Path) -> Callable[[], Source]:
        return lambda: open_both(file)


def test_each_label_column_is_a_hard_target_with_classes_of_its_own(file: Path) -> None:
    source = open_both(file)

    assert {name: targets_N.tolist() for name, targets_N in source.targets.items()} == {
        "species": [1, 2, -1, 1, 0],
        "size": [0, 2, 1, -1, 1],
    }
    assert target_class_names(source) == {"species": ("ant", "cat", "dog"), "size": None}
    assert source.class_names is None


def test_one_of_them_is_that_of_its_column_alone(file: Path) -> None:
    alone = open_source(SourceOptions(path=str(file), label_column="species"))

    one = with_one_target(open_both(file), "species")

    assert (one.class_names, list(one.targets)) == (alone.class_names, ["species"])
    assert np.array_equal(one.targets["species"], alone.targets["species"])
    assert list(one.keys) == list(alone.keys)
    assert with_one_target(open_both(file), None).targets == {}


def test_a_part_of_the_samples_has_the_same_classes(file: Path) -> None:
    part = first(open_both(file), 2)

    assert with_one_target(part, "species").class_names == ("ant", "cat", "dog")
    assert with_one_target(open_both(file, limit=2), "size").targets["size"].tolist() == [0, 2]


def test_what_asks_for_one_hard_target_is_told_what_to_do(file: Path) -> None:
    with pytest.raises(InvalidOption, match=re.escape("learn each with a head of its own (`student.NAME.head`)")):
        hard_targets(open_both(file))


def test_columns_without_one_label_a_sample_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "lists.parquet", species=[[0], [1, 2], [0], [1], [2]], size=[0, 1, 2, 0, 1])

    with pytest.raises(InvalidOption, match="the column 'species' has no labels, or a list of them for a sample"):
        open_both(file)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label_columns": ("a", "a")}, "source.label_columns: a name is empty, or there twice."),
        ({"label_columns": ("a",), "label_column": "b"}, "stands in place of `source.label_column`"),
        ({"label_columns": ("a",), "class_names": ("x",)}, "source.class_names: says something of one label column"),
        ({"label_columns": ("a",), "targets": (1,)}, "Leave `source.targets` out."),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(expected)):
        SourceOptions(path="a.parquet", **options)
