import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.recipes.building import load_recipe
from softlab.recipes.writing import write_recipe
from tests.recipes.example_recipe import ExampleRecipe, InputOptions
from tests.recipes.test_building import NEEDS, VALUES, load


def write_and_read(recipe: ExampleRecipe, folder: Path) -> ExampleRecipe:
    write_recipe(folder / "written.toml", recipe)
    return load_recipe(ExampleRecipe, path=folder / "written.toml")


@pytest.mark.parametrize("key", VALUES)
def test_a_written_recipe_is_read_as_the_same(tmp_path: Path, key: str) -> None:
    needed = next((each for name, each in NEEDS.items() if key.startswith(name)), {})
    recipe = load(flags=needed, assignments=[f"{key}={VALUES[key][0]}"])

    assert write_and_read(recipe, tmp_path) == recipe


@pytest.mark.parametrize(
    "recipe",
    [
        load(),
        load(assignments=["dump.temperatures=[]"]),  # empty, and the default is not
        load(assignments=["teacher.arguments={a = {b = [], c = {}}}", "input.channels=1"]),
        load(assignments=['student."conv{i}.a".model=timm:a']),
        load(assignments=["loss.name=hard", "student.a={model = 'm:f', loss = {name = 'weighed', beta = 2}}"]),
        load(assignments=["loss={name = 'weighed', beta = 2}", "student.a={model = 'm:f', loss.temperature = 3}"]),
        load(assignments=["loss={name = 'weighed', beta = 2}", "student.a={model = 'm:f', loss.name = 'plain'}"]),
        load(assignments=["dump.taps={a = 'b'}", "student.a={model = 'm:f', taps = {}}", "input.files=['a']"]),
        load(assignments=["input={channels = 1, files = ['a']}", "student.a={model = 'm:f', input = {files = []}}"]),
    ],
)
def test_what_is_empty_odd_or_of_another_kind_is_read_as_the_same(tmp_path: Path, recipe: ExampleRecipe) -> None:
    assert write_and_read(recipe, tmp_path) == recipe


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES_OF_ARGUMENTS = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(arguments=st.dictionaries(TEXTS, VALUES_OF_ARGUMENTS, max_size=3))
def test_any_arguments_are_read_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, Any]
) -> None:
    recipe = load(flags={"teacher.arguments": arguments})

    assert write_and_read(recipe, tmp_path_factory.mktemp("recipe")) == recipe


def test_a_written_recipe_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    write_recipe(tmp_path / "written.toml", load())

    text = (tmp_path / "written.toml").read_text()
    assert not re.search("valid|student|arguments|weights|limit|taps|run_options", text)
    assert re.search(r"^\[loss\]\nname = .plain.\n", text, re.MULTILINE), "which of several a section is, is said"
    assert load().input == InputOptions(channels=3)
