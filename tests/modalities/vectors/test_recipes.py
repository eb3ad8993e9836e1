"""Recipes of models of vectors: what a model must know of its columns before it is built."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import softlab
from softlab.errors import UnreadableSample
from softlab.modalities.vectors.inputs import VectorInput
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.opening import ValidOptions
from softlab.recipes.students import StudentModel, TeacherModel
from softlab.recipes.teacher import TeacherRecipe
from softlab.recipes.train import TrainRecipe
from softlab.student.run_folder import StudentResult
from tests.modalities.vectors.tables import make_table, write_table

FIELDS = ("weight", "rooms", "colour")
ROWS: Any = VectorInput(numbers=("weight", "rooms"), categories=("colour",))
RUN = softlab.RunOptions(epochs=1, batch_size=20)


@pytest.fixture
def samples(tmp_path: Path) -> softlab.SourceOptions:
    return write_table(tmp_path / "table.parquet", make_table(), *FIELDS)


@pytest.fixture
def others(tmp_path: Path) -> softlab.SourceOptions:
    """Twice as heavy, so that statistics of their own would be others."""
    table = make_table(count=30, seed=1)
    return write_table(tmp_path / "others.parquet", table | {"weight": 2 * table["weight"]}, *FIELDS)


def dump(out: Path, teacher: TeacherModel, source: softlab.SourceOptions) -> softlab.Store:
    DumpRecipe(out=out, teacher=teacher, source=source, input=ROWS, dump=softlab.DumpOptions(k=2)).run()
    return softlab.open_store(out)


def taught(tmp_path: Path, source: softlab.SourceOptions) -> TeacherModel:
    """A teacher with weights that tell their input."""
    model = TeacherModel(model="softlab:vectors_mlp")
    TeacherRecipe(out=tmp_path / "taught", teacher=model, source=source, input=ROWS, run_options=RUN).run()
    return replace(model, weights=tmp_path / "taught/teacher/last.safetensors")


@pytest.mark.filterwarnings("ignore::softlab.errors.RandomWeights", "ignore::softlab.errors.OddLabels")
def test_a_teacher_that_was_not_trained_here_is_built_for_the_columns_of_the_source(
    tmp_path: Path, samples: softlab.SourceOptions
) -> None:
    store = dump(tmp_path / "store", TeacherModel(model="softlab:vectors_mlp"), samples)

    assert store.manifest.seen[0].options["sizes"] == [1, 1]


def test_the_teachers_own_run_over_validation_data_has_the_statistics_of_its_training(
    tmp_path: Path, samples: softlab.SourceOptions, others: softlab.SourceOptions
) -> None:
    teacher = taught(tmp_path, samples)
    store = dump(tmp_path / "store", teacher, samples)

    TrainRecipe(
        out=tmp_path / "run",
        store=(str(tmp_path / "store"),),
        student={"small": StudentModel(model="softlab:vectors_mlp", arguments={"width": 8})},
        source=samples,
        valid=others,
        valid_full=tmp_path / "full",
        teacher=teacher,
        input=ROWS,
        run_options=RUN,
    ).run()

    full = softlab.open_store(tmp_path / "full")
    assert full.manifest.seen[0].options["means"] == store.manifest.seen[0].options["means"]


def train_teacher(
    out: Path, source: softlab.SourceOptions, valid: softlab.SourceOptions, input: Any = ROWS
) -> list[StudentResult]:
    teacher = TeacherModel(model="softlab:vectors_mlp")
    return TeacherRecipe(out=out, teacher=teacher, source=source, valid=valid, input=input, run_options=RUN).run()


@pytest.fixture
def odd(tmp_path: Path) -> softlab.SourceOptions:
    """Validation data of which the last row has a colour that no sample of training has."""
    table = make_table(count=30, seed=1)
    return write_table(tmp_path / "odd.parquet", table | {"colour": [*table["colour"][:-1], "pink"]}, *FIELDS)


def test_a_category_of_the_validation_data_that_training_lacks_is_refused_before_the_first_step(
    tmp_path: Path, samples: softlab.SourceOptions, odd: softlab.SourceOptions
) -> None:
    message = r"sample '29' .* the category 'pink', .* `valid\.skip_unreadable = true`"

    with pytest.raises(UnreadableSample, match=message):
        train_teacher(tmp_path / "run", samples, odd)

    assert not (tmp_path / "run").exists()
    zeros = replace(ROWS, unseen="zeros")
    (result,) = train_teacher(tmp_path / "zeros", samples, odd, zeros)
    assert result.last is not None
    assert result.last.rows == 30


def test_what_the_inputs_of_students_do_not_know_is_left_out_of_validation_data_where_that_is_said(
    tmp_path: Path, samples: softlab.SourceOptions, odd: softlab.SourceOptions
) -> None:
    dump(tmp_path / "store", taught(tmp_path, samples), samples)
    left = replace(odd, skip_unreadable=True)

    results = TrainRecipe(
        out=tmp_path / "run",
        store=(str(tmp_path / "store"),),
        student={"small": StudentModel(model="softlab:vectors_mlp", arguments={"width": 8})},
        source=samples,
        valid=left,
        also_valid={"again": ValidOptions(path=odd.path, fields=odd.fields, skip_unreadable=True)},
        input=ROWS,
        run_options=RUN,
    ).run()

    (teacher,) = train_teacher(tmp_path / "teacher", samples, left)
    for result in (*results, teacher):
        assert isinstance(result, StudentResult)
        assert result.last is not None
        assert result.last.rows == 29
