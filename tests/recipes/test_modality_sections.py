"""Sections whose keys a modality decides."""

from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.modalities.images.inputs import ImageInput
from softlab.recipes.building import load_recipe, recipe_from
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.options import option_fields
from softlab.recipes.train import TrainRecipe
from softlab.recipes.writing import write_recipe
from tests.modalities.text_bytes import TextInput

TEXT = "tests.modalities.text_bytes"
DUMP: dict[str, Any] = {"out": "store", "teacher": {"model": "a:b"}, "source": {"path": "texts"}}
TRAIN: dict[str, Any] = {"out": "run", "store": ["store"], "source": {"path": "texts"}}


def dump(**sections: Any) -> DumpRecipe:
    return recipe_from(DumpRecipe, DUMP | sections, where="recipe.toml")


def test_an_input_has_the_options_of_its_modality() -> None:
    recipe = dump(input={"modality": TEXT, "length": 7})

    assert recipe.input == TextInput(length=7)  # type: ignore[comparison-overlap]
    assert dump(input={"modality": "images", "channels": 1}).input == ImageInput(channels=1)


def test_a_model_has_an_input_of_its_own() -> None:
    student = {"small": {"model": "a:b", "input": {"size": [8, 8]}}, "large": {"model": "a:c"}}

    recipe = recipe_from(TrainRecipe, TRAIN | {"student": student, "input": {"channels": 3}}, where="recipe.toml")

    assert recipe.student["small"].input == ImageInput(size=(8, 8), channels=3)
    assert recipe.student["large"].input is None
    assert recipe.input == ImageInput(channels=3)


def test_a_models_own_input_is_of_the_runs_modality_unless_it_says_another() -> None:
    text = {"modality": TEXT, "length": 7}
    own = {"model": "a:b", "input": {"length": 3}}

    assert dump(input=text, teacher=own).teacher.input == TextInput(length=3)  # type: ignore[comparison-overlap]
    seeing = {"model": "a:b", "input": {"modality": "images", "channels": 1}}
    assert dump(input=text, teacher=seeing).teacher.input == ImageInput(channels=1)
    assert dump(input=text, teacher={"model": "a:b", "input": {}}).teacher.input == TextInput(length=7)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"input": {"modality": TEXT, "size": [8, 8]}}, r"unknown key input\.size\..*length"),
        ({"input": {"modality": TEXT, "length": "long"}}, r"input\.length is 'long', but must be a whole number"),
        ({"input": {"modality": "image"}}, r"modality 'image': .*Did you mean images\?"),
        ({"input": {"modality": 3}}, r"modality is 3, but must be a string"),
        ({"input": {"modality": TEXT}, "augment": {"mixup": 0.2}}, r"unknown key augment\.mixup"),
        ({"dump": {"modality": TEXT}}, r"unknown key dump\.modality"),
    ],
)
def test_what_the_modality_does_not_know_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        dump(**sections)


def test_an_assignment_chooses_the_modality_of_a_whole_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("out = 'store'\nsource.path = 'texts'\nteacher.model = 'a:b'\n[input]\nlength = 5\n")

    recipe = load_recipe(DumpRecipe, path=path, assignments=[f"input.modality={TEXT}"])

    assert recipe.input == TextInput(length=5)  # type: ignore[comparison-overlap]


def test_a_written_recipe_is_read_as_the_same(tmp_path: Path) -> None:
    recipe = dump(input={"modality": TEXT}, teacher={"model": "a:b", "input": {"length": 3}})

    write_recipe(tmp_path / "again.toml", recipe)

    assert load_recipe(DumpRecipe, path=tmp_path / "again.toml") == recipe


def test_a_models_own_input_is_one_option() -> None:
    keys = {option.key for option in option_fields(DumpRecipe)}

    assert "input.size" in keys
    assert [key for key in keys if key.startswith("teacher.input")] == ["teacher.input"]
