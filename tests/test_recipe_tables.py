"""Recipes that are built from a table, changed by one, or written to a file and read again."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.recipe import load_recipe, merged, overridden, recipe_from, write_recipe
from tests.example_recipe import DumpOptions, ExampleRecipe, InputOptions, ModelOptions, SourceOptions
from tests.test_recipe import VALUES, load

REQUIRED: dict[str, Any] = {"out": "run", "teacher": {"model": "softlab:big"}, "source": {"path": "images"}}

BASE = ExampleRecipe(
    out=Path("run"),
    teacher=ModelOptions(model="softlab:big", arguments={"width": 8}),
    source=SourceOptions(path=Path("images"), limit=5),
    student={"one": ModelOptions(model="softlab:small")},
    dump=DumpOptions(views=2, temperatures=(3.0,)),
)

# From a table.


def test_a_table_makes_the_recipe_that_a_file_with_it_makes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("out = 'run'\nteacher.model = 'softlab:big'\nsource.path = 'images'\ndump.views = 4\n")

    recipe = recipe_from(ExampleRecipe, REQUIRED | {"dump": {"views": 4}}, where="stage 1")

    assert recipe == load_recipe(ExampleRecipe, path=path, flags={}, assignments=[])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"dump": {"vews": 4}}, "unknown key dump.vews. Did you mean views?"),
        ({"dump": {"views": "many"}}, "dump.views is 'many', but must be a whole number."),
        ({"dump": {"views": 0}}, "--views 0: no view to store. Give at least 1."),
        ({"source": {}}, "source.path is missing. Give it there."),
        ({"student": {"one": {}}}, "student.one.model is missing. Give it there."),
    ],
)
def test_an_error_names_the_table(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(f'stage 1: {message}')}$"):
        recipe_from(ExampleRecipe, REQUIRED | table, where="stage 1")


# Changed by a table.


def test_an_empty_table_changes_nothing() -> None:
    assert overridden(BASE, {}, where="here") == BASE


def test_what_a_table_does_not_name_stays_in_every_section() -> None:
    changed = overridden(BASE, {"dump": {"views": 4}, "valid": {"path": "held out"}}, where="here")

    assert changed.dump == DumpOptions(views=4, temperatures=(3.0,))
    assert changed.valid == SourceOptions(path=Path("held out"))
    assert (changed.source, changed.teacher, changed.student) == (BASE.source, BASE.teacher, BASE.student)


def test_tables_of_names_are_replaced_as_a_whole_so_that_they_can_be_emptied() -> None:
    assert overridden(BASE, {"student": {}}, where="here").student == {}
    assert overridden(BASE, {"student": {"two": {"model": "a:b"}}}, where="here").student.keys() == {"two"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"vald": {}}, "unknown key vald. Did you mean valid?"),
        ({"dump": {"views": "many"}}, "dump.views is 'many', but must be a whole number."),
        ({"dump": {"views": 0}}, "--views 0: no view to store. Give at least 1."),
        ({"valid": {"limit": 3}}, "valid.path is missing. Give it there."),
    ],
)
def test_an_error_names_the_table_that_changes(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(f'here: {message}')}$"):
        overridden(BASE, table, where="here")


def test_merged_tables_have_what_both_name_from_the_later_one() -> None:
    table = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": {"g": 3}}

    both = merged(table, {"a": {"c": {"d": 4, "h": 5}}, "e": [6], "f": 7})

    assert both == {"a": {"b": 1, "c": {"d": 4, "h": 5}}, "e": [6], "f": 7}
    assert table == {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": {"g": 3}}


# Written and read again.


def write_and_read(recipe: ExampleRecipe, folder: Path) -> ExampleRecipe:
    write_recipe(folder / "written.toml", recipe)
    return load_recipe(ExampleRecipe, path=folder / "written.toml", flags={}, assignments=[])


@pytest.mark.parametrize("key", VALUES)
def test_a_written_recipe_is_read_as_the_same(tmp_path: Path, key: str) -> None:
    section = ["valid.path=a"] if key.startswith("valid.") else []
    recipe = load(assignments=[*section, f"{key}={VALUES[key][0]}"])

    assert write_and_read(recipe, tmp_path) == recipe


@pytest.mark.parametrize(
    "recipe",
    [
        load(),
        load(assignments=["dump.temperatures=[]"]),  # empty, and the default is not
        load(assignments=["teacher.arguments={a = {b = [], c = {}}}", "input.channels=1"]),
        load(assignments=['student."conv{i}.a".model=timm:a']),
    ],
)
def test_what_is_empty_or_has_an_odd_name_is_read_as_the_same(tmp_path: Path, recipe: ExampleRecipe) -> None:
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
    assert not re.search("valid|student|arguments|weights|limit|taps", text)
    assert load().input == InputOptions(channels=3)
