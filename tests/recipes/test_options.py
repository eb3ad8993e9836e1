from dataclasses import MISSING
from pathlib import Path
from typing import Any

import pytest

from softlab.recipes.options import OptionField, option_fields
from tests.recipes.example_recipe import ExampleRecipe
from tests.recipes.test_building import VALUES


def option(key: str) -> OptionField:
    return next(field for field in option_fields(ExampleRecipe, main_section="dump") if field.key == key)


def test_every_option_of_the_example_has_a_value_to_test_with() -> None:
    assert [field.key for field in option_fields(ExampleRecipe)] == list(VALUES)


def test_an_option_tells_its_section_name_type_default_and_help() -> None:
    weights = option("teacher.weights")

    assert (weights.section, weights.name, weights.type) == ("teacher", "weights", Path)
    assert weights.default is None
    assert weights.help == "Its [trained] weights."
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


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("out", "--out"),
        ("teacher.model", "--teacher"),
        ("teacher.weights", "--teacher-weights"),
        ("valid.path", "--valid"),
        ("student", "--student"),
        ("dump.views", "--views"),
        ("input.channels", "--input-channels"),  # it has a default, so it is not the head of its section
    ],
)
def test_a_flag_leaves_out_the_main_section_and_the_head_of_a_section(key: str, flag: str) -> None:
    assert option(key).flag == flag
