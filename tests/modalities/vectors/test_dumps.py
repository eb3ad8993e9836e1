"""A teacher of vectors, its store, and students of other columns."""

import json
from pathlib import Path

import pytest
import torch

import softlab
from softlab.errors import StoreMismatch, UnreadableSample
from softlab.modalities.modality import model_arguments, settle_input
from softlab.modalities.vectors.inputs import VectorInput
from softlab.models.build import ModelOptions, build_model
from softlab.sources.source import Source
from tests.modalities.vectors.tables import make_table, write_table

FIELDS = ("weight", "rooms", "colour", "x", "y")
ROWS = VectorInput(numbers=("weight", "rooms"), categories=("colour",))
WINDOWS = VectorInput(numbers=("x", "y"), layout="channels")
RUN = softlab.TrainOptions(
    run=softlab.RunOptions(epochs=30, batch_size=20),
    learn=softlab.LearnOptions(optimizer=softlab.OptimizerOptions(learning_rate=3e-3)),
    log=softlab.LogOptions(track=()),
)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return softlab.open_source(write_table(tmp_path / "table.parquet", make_table(), *FIELDS), modality="vectors")


@pytest.fixture
def store(tmp_path: Path, source: Source) -> softlab.Store:
    taught = student("vectors_mlp", ROWS, source)
    softlab.train_students({"teacher": taught}, source, [], RUN)
    teacher = softlab.Teacher(module=taught.module, name="mlp", arguments={}, input=settle_input(ROWS, source))
    softlab.dump_teacher(teacher, source, tmp_path / "store", softlab.DumpOptions(k=2))
    return softlab.open_store(tmp_path / "store")


def student(name: str, input: VectorInput, source: Source) -> softlab.Student:
    input = settle_input(input, source)
    torch.manual_seed(0)
    return softlab.Student(
        module=build_model(ModelOptions(model=f"softlab:{name}"), told=model_arguments(input)), input=input
    )


def test_statistics_are_recorded_in_the_manifest_and_found_again_by_a_student(
    source: Source, store: softlab.Store
) -> None:
    (record,) = store.manifest.seen

    settled = settle_input(ROWS, source)
    assert record.field == "weight"
    assert tuple(record.options["means"]) == settled.means
    assert json.loads(record.options["known"]) == {"colour": ["blue", "green", "red"]}


def test_students_of_the_same_and_of_other_columns_learn_in_one_run(
    tmp_path: Path, source: Source, store: softlab.Store
) -> None:
    students = {
        "same": student("vectors_mlp", ROWS, source),
        "fewer": student("vectors_mlp", VectorInput(numbers=("weight",)), source),
        "windows": student("vectors_conv", WINDOWS, source),
    }

    results = softlab.train_students(students, source, [store], RUN, out=tmp_path / "run")

    assert [result.error for result in results] == [None] * 3
    agreement = {
        name: softlab.evaluate_model(each.module, source, store=store, input=each.input).values["teacher_agreement"]
        for name, each in students.items()
    }
    assert min(agreement["same"], agreement["windows"]) > 0.9 > agreement["fewer"]


def test_a_source_with_another_value_is_not_that_of_the_store(
    tmp_path: Path, source: Source, store: softlab.Store
) -> None:
    columns = make_table()
    columns["rooms"][3] += 1
    other = softlab.open_source(write_table(tmp_path / "other.parquet", columns, *FIELDS), modality="vectors")

    with pytest.raises(StoreMismatch, match="'03'"):
        softlab.train_students({"a": student("vectors_mlp", ROWS, other)}, other, [store])


def test_a_value_that_is_not_a_number_stops_a_dump_by_its_name(tmp_path: Path) -> None:
    columns = make_table()
    columns["weight"][41] = float("nan")
    source = softlab.open_source(write_table(tmp_path / "table.parquet", columns, *FIELDS), modality="vectors")
    input = settle_input(ROWS, source)
    module = build_model(ModelOptions(model="softlab:vectors_mlp"), told=model_arguments(input))

    with pytest.raises(UnreadableSample, match="sample '41' can't be read: its field 'weight' holds nan"):
        softlab.dump_teacher(
            softlab.Teacher(module=module, name="mlp", arguments={}, input=input), source, tmp_path / "store"
        )


def test_rows_of_a_csv_file_are_read_as_those_of_parquet(tmp_path: Path) -> None:
    columns = {name: make_table()[name] for name in ("weight", "rooms", "colour", "label")}
    fields = ("weight", "rooms", "colour")
    parquet = softlab.open_source(write_table(tmp_path / "table.parquet", columns, *fields), modality="vectors")
    lines = [",".join(map(str, row)) for row in zip(*(each.tolist() for each in columns.values()), strict=True)]
    (tmp_path / "table.csv").write_text("\n".join([",".join(columns), *lines]))
    options = softlab.SourceOptions(
        path=f"datasets:csv:{tmp_path / 'table.csv'}", fields={each: each for each in fields}
    )

    csv = softlab.open_source(options, modality="vectors")

    assert settle_input(VectorInput(), csv) == settle_input(ROWS, parquet)
