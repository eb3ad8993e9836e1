"""What a student of a recipe learns: its own sections begin from those of the recipe, all else is shared."""

from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.labels.losses import ArgmaxLoss, DecoupledKlLoss, DistLoss, KlLoss
from softlab.modalities.images.inputs import ImageInput
from softlab.recipes.building import recipe_from
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.train import TrainRecipe
from softlab.recipes.writing import write_recipe
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, TargetOptions, TeachersOptions
from softlab.student.pruning import PruneOptions

LEAST: dict[str, Any] = {"out": "run", "store": ["store"], "source": {"path": "images"}}


def recipe(own: dict[str, Any], **sections: Any) -> TrainRecipe:
    """Of two students, one with sections of its own."""
    student = {"plain": {"model": "a:b"}, "own": {"model": "a:b"} | own}
    return recipe_from(TrainRecipe, LEAST | {"student": student} | sections, where="recipe.toml")


def learnt(found: TrainRecipe, name: str = "own") -> LearnOptions:
    return found.student[name].learn(found.options.learn)


def test_a_student_without_sections_of_its_own_learns_as_the_recipe_says() -> None:
    found = recipe({}, teachers={"alpha": 0.5}, loss={"name": "dkd", "beta": 2.0}, prune={"amount": 0.5})

    assert learnt(found) == learnt(found, "plain") == found.options.learn
    assert found.options.learn.loss == DecoupledKlLoss(beta=2.0)


def test_a_section_of_its_own_begins_from_the_recipes() -> None:
    found = recipe(
        {
            "teachers": {"alpha_end": 1.0},
            "loss": {"temperature": 3.0},
            "targets": {"class_weights": "balanced"},
            "optimizer": {"learning_rate": 0.1},
            "prune": {"amount": 0.9},
        },
        teachers={"alpha": 0.5},
        loss={"name": "dkd", "beta": 2.0},
        targets={"label_smoothing": 0.1},
        optimizer={"name": "sgd", "momentum": 0.8},
        prune={"amount": 0.5, "scope": "global"},
    )

    assert learnt(found) == LearnOptions(
        teachers=TeachersOptions(alpha=0.5, alpha_end=1.0),
        loss=DecoupledKlLoss(beta=2.0, temperature=3.0),
        targets=TargetOptions(label_smoothing=0.1, class_weights="balanced"),
        optimizer=OptimizerOptions(name="sgd", momentum=0.8, learning_rate=0.1),
        prune=PruneOptions(amount=0.9, scope="global"),
    )
    assert learnt(found, "plain") == found.options.learn


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        ({"name": "dkd", "beta": 2.0, "temperature": 2.0}, {"name": "dist"}, DistLoss()),
        ({"temperature": 2.0, "tail": "bucket"}, {"name": "dkd"}, DecoupledKlLoss()),
        ({"temperature": 2.0, "tail": "bucket"}, {"name": "kl"}, KlLoss(temperature=2.0, tail="bucket")),
        ({"name": "dist", "inter": 3.0}, {"name": "kl", "temperature": 1.0}, KlLoss(temperature=1.0)),
        ({"name": "dkd"}, {"name": "argmax"}, ArgmaxLoss()),
    ],
)
def test_another_loss_begins_from_its_own_defaults(shared: Any, own: Any, expected: object) -> None:
    assert learnt(recipe({"loss": own}, loss=shared)).loss == expected


@pytest.mark.parametrize(
    ("shared", "own", "message"),
    [
        (
            {"name": "dkd"},
            {"inter": 2.0},
            r"unknown key student\.own\.loss\.inter of dkd\. It is an option of dist alone",
        ),
        ({}, {"name": "dkl"}, r"student\.own\.loss\.name is 'dkl'\. Did you mean kl or dkd"),
        ({"name": "dkd", "inter": 2.0}, {}, r"unknown key loss\.inter of dkd\. It is an option of dist alone"),
        ({}, {"temperature": -1.0}, r"Change `student\.own\.loss\.temperature`\."),
    ],
)
def test_options_of_another_loss_are_refused(shared: Any, own: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        recipe({"loss": own}, loss=shared)


def test_the_features_of_a_student_are_in_place_of_the_recipes() -> None:
    shared = {"pool": {"layer": "3", "weight": 2.0}}

    assert learnt(recipe({}, feature=shared)).feature["pool"].weight == 2
    own = learnt(recipe({"feature": {"pool": {"layer": "5"}}}, feature=shared)).feature
    assert (list(own), own["pool"].layer, own["pool"].weight) == (["pool"], "5", 1.0)
    assert learnt(recipe({"feature": {}}, feature=shared)).feature == {}


def test_the_input_of_a_teacher_begins_from_the_recipes_too() -> None:
    table = {"out": "store", "source": {"path": "images"}, "input": {"mean": [0.3], "std": [0.2]}}
    teacher = {"model": "a:b", "input": {"size": [8, 8], "std": [0.4]}}

    found = recipe_from(DumpRecipe, table | {"teacher": teacher}, where="recipe.toml")

    assert found.teacher.input == ImageInput(size=(8, 8), mean=(0.3,), std=(0.4,))
    assert found.input == ImageInput(mean=(0.3,), std=(0.2,))


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"loss": {"name": "dist"}, "seed": 3},
        {
            "loss": {"temperature": 3.0},
            "teachers": {"weight": []},
            "optimizer": {"schedule": "cosine", "decay_steps": []},
        },
        {"feature": {}, "targets": {"class_weights": []}, "prune": {"amount": 0.9, "exclude": []}},
        {"input": {"size": [], "mean": [0.1]}, "inherit": {"map": {"conv{i}": "conv{i}"}}},
    ],
)
def test_a_written_recipe_is_read_as_the_same(tmp_path: Path, own: dict[str, Any]) -> None:
    found = recipe(
        own,
        teachers={"alpha": 0.5, "weight": [0.5, 0.5]},
        teacher={"model": "a:c", "weights": "teacher.safetensors"},
        loss={"name": "dkd", "beta": 2.0},
        targets={"class_weights": "balanced"},
        optimizer={"schedule": "step", "decay_steps": [10, 20]},
        feature={"pool": {"layer": "3"}},
        prune={"amount": 0.5, "exclude": ["stem"]},
        input={"size": [8, 8]},
        run={"epochs": 3},
        also_valid={"other": {"path": "others", "store": "other.zarr"}},
    )

    write_recipe(tmp_path / "written.toml", found)

    assert TrainRecipe.load(tmp_path / "written.toml") == found
