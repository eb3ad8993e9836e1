from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal

import pytest

from softlab.recipes.options import ANY_NAME, OptionField, option_fields
from tests.recipes.example_recipe import ExampleRecipe
from tests.recipes.test_building import VALUES


def option(key: str) -> OptionField:
    return next(field for field in option_fields(ExampleRecipe) if field.key == key)


def test_every_option_of_the_example_has_a_value_to_test_with() -> None:
    keys = [field.key for field in option_fields(ExampleRecipe)]

    assert [key for key in keys if ANY_NAME not in key] == list(VALUES)


def test_an_option_tells_its_section_name_type_default_and_help() -> None:
    weights = option("teacher.weights")

    assert (weights.section, weights.name, weights.type) == ("teacher", "weights", Path)
    assert weights.default is None
    assert (weights.summary, weights.help) == (
        "Its [trained] weights.",
        "Its [trained] weights. Where there are none, random ones.",
    )
    assert option("teacher.model").help == "Where the model comes from."


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("out", MISSING),
        ("source.path", MISSING),
        ("valid.path", None),  # the whole section may be left out
        ("input.channels", 3),  # the default of the section, not of its field
        ("dump.views", 1),
        ("student", {}),
    ],
)
def test_a_default_is_that_of_the_whole_command(key: str, default: Any) -> None:
    assert option(key).default == default


def test_a_table_of_named_sections_is_an_option_and_so_are_theirs() -> None:
    keys = [field.key for field in option_fields(ExampleRecipe) if field.key.partition(".")[0] == "student"]

    of_the_model = ("student.NAME.model", "student.NAME.arguments", "student.NAME.weights")
    of_the_student = ("student.NAME.seed", "student.NAME.input", "student.NAME.loss", "student.NAME.taps")
    assert keys == ["student", *of_the_model, *of_the_student]
    assert option("student.NAME.arguments").help == "Its keyword arguments."
    assert option("student.NAME.loss").help == "Where that is not as [loss] says."


def test_of_a_section_that_is_one_of_several_it_is_told_which_have_an_option() -> None:
    name, temperature, beta = option("loss.name"), option("loss.temperature"), option("loss.beta")

    assert (name.type, name.default) == (Literal["plain", "weighed", "hard"], "plain")
    assert (beta.of, beta.default) == (("weighed",), 8.0)
    assert temperature.of == ("plain", "weighed")
    assert temperature.help == "plain: Of both sides. Default: 1.0. weighed: Of both sides. Default: 4.0."


def test_a_field_may_have_another_key_or_none() -> None:
    keys = [field.key for field in option_fields(ExampleRecipe)]

    assert "run.epochs" in keys
    assert not [key for key in keys if "run_options" in key or key.startswith("dump.run")]
