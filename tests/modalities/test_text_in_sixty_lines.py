"""A new modality is one small module: nothing in softlab knows of this one."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import softlab
from softlab.cli.main import main
from softlab.errors import InvalidOption, UnreadableSample
from softlab.modalities.modality import Modality
from softlab.sources.source import Raw
from softlab.testing.modalities import ModalityContract
from tests.modalities import text_bytes
from tests.modalities.text_bytes import MODALITY, TextInput, bag_of_words

CPU = softlab.DeviceOptions(name="cpu")
TEXTS = ["red apple", "green apple", "blue sea", "grey sky", "a red sky", "green", "", "häßlich"]
RECIPE = f"""
[input]
modality = "{MODALITY.name}"
length = 12

[source]
fields = {{text = "sentence"}}
"""
TEACHER = f"""
[teacher]
model = "{MODALITY.name}:bag_of_words"
"""
STUDENT = f"""
[student.small]
model = "{MODALITY.name}:bag_of_words"
arguments = {{width = 4}}
input = {{length = 6}}
"""


class TestText(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        return TEXTS


@pytest.fixture
def texts(tmp_path: Path) -> softlab.SourceOptions:
    """A Parquet file, and how it is opened."""
    table = {"sentence": pa.array(TEXTS), "label": pa.array([index % 3 for index in range(len(TEXTS))])}
    pq.write_table(pa.table(table), tmp_path / "texts.parquet")
    return softlab.SourceOptions(path=str(tmp_path / "texts.parquet"), fields={"text": "sentence"})


def build(*, width: int = 8, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return bag_of_words(width=width)


def test_it_has_sixty_lines() -> None:
    assert len(Path(text_bytes.__file__).read_text().splitlines()) <= 60


def test_a_teacher_of_text_teaches_students_with_inputs_of_their_own(
    tmp_path: Path, texts: softlab.SourceOptions
) -> None:
    source = softlab.open_source(texts, modality=MODALITY.name)
    teacher = softlab.Teacher(module=build(), name="bag", arguments={}, input=TextInput(length=12))
    summary = softlab.dump_teacher(teacher, source, tmp_path / "store", softlab.DumpOptions(device=CPU))
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=2, batch_size=4), device=CPU, log=softlab.LogOptions(track=())
    )
    short = softlab.Student(module=build(width=4, seed=1), input=TextInput(length=6))

    results = softlab.train_students(
        {"short": short, "long": build(seed=2)},
        source,
        [softlab.open_store(tmp_path / "store")],
        options,
        input=TextInput(),
        valid=softlab.Validation(source=source),
        out=tmp_path / "run",
    )

    assert [(used.field, used.modality, used.options) for used in summary.manifest.inputs] == [
        ("text", MODALITY.name, {"length": 12})
    ]
    assert [result.error for result in results] == [None, None]
    assert all(result.last is not None and "accuracy" in result.last.values for result in results)


def test_its_student_is_measured_against_the_teacher(tmp_path: Path, texts: softlab.SourceOptions) -> None:
    source, module, input = softlab.open_source(texts, modality=MODALITY.name), build(), TextInput(length=12)
    teacher = softlab.Teacher(module=module, name="bag", arguments={}, input=input)
    softlab.dump_teacher(teacher, source, tmp_path / "store", softlab.DumpOptions(device=CPU, coding="float32"))

    found = softlab.evaluate_model(module, source, store=softlab.open_store(tmp_path / "store"), input=input)

    assert found.values["teacher_agreement"] == 1.0


def run_command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert not stopped.value.code


def test_the_commands_take_it_from_a_recipe(
    tmp_path: Path, texts: softlab.SourceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the program puts its own there
    recipe, store, run = tmp_path / "text.toml", tmp_path / "store", tmp_path / "run"
    recipe.write_text(RECIPE + TEACHER)
    run_command("dump-teacher", recipe, "--source", texts.path, "--out", store)
    recipe.write_text(RECIPE + STUDENT)
    run_command(
        *("train-student", recipe, "--source", texts.path, "--store", store, "--out", run),
        *("--epochs", "1", "--batch-size", "4"),
    )

    assert (run / "small" / "last.safetensors").is_file()


def test_what_is_no_text_is_an_unreadable_sample(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([1, 2]), "label": pa.array([0, 1])}), tmp_path / "numbers.parquet")
    options = softlab.SourceOptions(path=str(tmp_path / "numbers.parquet"), fields={"text": "text"})
    source = softlab.open_source(options, modality=MODALITY.name)
    teacher = softlab.Teacher(module=build(), name="bag", arguments={}, input=TextInput())

    with pytest.raises(UnreadableSample, match=r"row 0: sample '0' can't be read: it isn't text"):
        softlab.dump_teacher(teacher, source, tmp_path / "store", softlab.DumpOptions(device=CPU))


def test_views_that_it_has_not_are_refused(tmp_path: Path, texts: softlab.SourceOptions) -> None:
    source = softlab.open_source(texts, modality=MODALITY.name)
    teacher = softlab.Teacher(module=build(), name="bag", arguments={}, input=TextInput())
    augment = softlab.ViewRecipe(transforms=("RandomHorizontalFlip()",))

    with pytest.raises(InvalidOption, match=r"views are random \(RandomHorizontalFlip\(\) \(seed 0\)\)"):
        softlab.dump_teacher(teacher, source, tmp_path / "store", softlab.DumpOptions(device=CPU), augment=augment)
