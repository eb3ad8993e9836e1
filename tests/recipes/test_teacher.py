"""A teacher that starts from weights which know classes."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from softlab.errors import OddLabels, StoreMismatch
from softlab.models.build import ModelOptions, build_model
from softlab.models.weights import encode_weights
from softlab.recipes.students import TeacherModel
from softlab.recipes.teacher import TeacherRecipe
from softlab.sources.options import SourceOptions
from softlab.student.options import RunOptions
from tests.recipes.demo import DATA, INPUT, TEACHER, as_class_folders, train


def recipe(out: Path, teacher: TeacherModel, source: SourceOptions) -> TeacherRecipe:
    run = RunOptions(epochs=1, batch_size=50)
    return TeacherRecipe(out=out, teacher=teacher, source=source, input=INPUT, run_options=run)


@pytest.fixture
def folder(tmp_path: Path) -> SourceOptions:
    """Eight of the demo's ten classes, which their sorted names number anew."""
    return SourceOptions(path=str(as_class_folders(tmp_path / "some")))


@pytest.mark.filterwarnings("ignore:.*no images for 2 classes:softlab.errors.OddSource")
def test_targets_that_contradict_weights_are_told_before_they_are_trained_on(
    tmp_path: Path, folder: SourceOptions
) -> None:
    """The demo's teacher has ten classes and no names, so that the numbers of the folders mean others."""
    names = [f"{number} {each.name}" for number, each in enumerate(sorted(Path(folder.path).iterdir()))]
    for name, each in zip(names, sorted(Path(folder.path).iterdir()), strict=True):
        each.rename(each.with_name(name))
    ten = replace(folder, class_names=(*names, "8", "9"))

    with pytest.warns(OddLabels, match=r"count classes otherwise than the teacher: .* if '0 Ankle boot' \(0\) is its"):
        (result,) = recipe(tmp_path / "out", TEACHER, ten).run()

    assert result.train_loss is not None


def test_labels_of_other_classes_than_those_of_the_weights_are_never_trained_on(
    tmp_path: Path, folder: SourceOptions
) -> None:
    with pytest.raises(
        StoreMismatch, match=r"\(8 classes\) than the 10 of the teacher's weights, .* a head of its own"
    ):
        recipe(tmp_path / "out", TEACHER, folder).run()

    own = replace(TEACHER, arguments={"num_classes": 8}, weights_except=("classifier",))
    (result,) = recipe(tmp_path / "out", own, folder).run()
    assert result.train_loss is not None


def test_folders_are_counted_as_the_weights_name_their_classes(
    tmp_path: Path, store: Path, folder: SourceOptions
) -> None:
    train(store, tmp_path / "run").run()
    teacher = TeacherModel(model="softlab:grey_mlp", weights=tmp_path / "run/mlp/last.safetensors")

    with pytest.warns(OddLabels, match=r"those of the teacher's weights: 8 of 10 there"):
        (result,) = recipe(tmp_path / "out", teacher, folder).run()

    assert result.train_loss is not None


def test_nor_are_numbers_without_names_that_the_weights_are_right_about_by_chance(tmp_path: Path) -> None:
    (file,) = (DATA / "train").glob("*.parquet")
    pq.write_table(pq.read_table(file).slice(0, 200).replace_schema_metadata(None), tmp_path / "numbers.parquet")
    arguments: dict[str, object] = {"num_classes": 100}
    module = build_model(ModelOptions(model="softlab:grey_mlp", arguments=arguments))
    with torch.no_grad():
        next(reversed(list(module.parameters())))[:10] = -100.0  # it says none of the first ten
    (tmp_path / "hundred.safetensors").write_bytes(encode_weights(module.state_dict()))
    teacher = TeacherModel(model="softlab:grey_mlp", arguments=arguments, weights=tmp_path / "hundred.safetensors")

    with pytest.raises(StoreMismatch, match=r"\(labels up to 9\) than the 100 of the teacher's weights, .* of its own"):
        recipe(tmp_path / "out", teacher, SourceOptions(path=str(tmp_path / "numbers.parquet"))).run()
