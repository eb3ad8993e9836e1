import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.recipes.building import load_recipe, overridden, recipe_from
from tests.recipes.example_recipe import DumpOptions, ExampleRecipe, InputOptions, ModelOptions, SourceOptions

REQUIRED = {"out": Path("run"), "teacher.model": "softlab:big", "source.path": Path("images")}

# For each option: how TOML writes a value, and what the value is.
VALUES: dict[str, tuple[str, Any]] = {
    "out": ('"elsewhere"', Path("elsewhere")),
    "teacher.model": ('"timm:small"', "timm:small"),
    "teacher.arguments": ('{width = 8, act = "relu", sizes = [1, 2]}', {"width": 8, "act": "relu", "sizes": [1, 2]}),
    "teacher.weights": ('"big.safetensors"', Path("big.safetensors")),
    "source.path": ('"train"', Path("train")),
    "source.shuffle_every_epoch": ("false", False),
    "source.limit": ("100", 100),
    "valid.path": ('"held out"', Path("held out")),
    "valid.shuffle_every_epoch": ("false", False),
    "valid.limit": ("7", 7),
    "input.channels": ("1", 1),
    "input.files": ('["a", "b"]', (Path("a"), Path("b"))),
    "student": ('{one = {model = "softlab:small"}}', {"one": ModelOptions(model="softlab:small")}),
    "dump.views": ("4", 4),
    "dump.temperatures": ("[1, 4.5]", (1.0, 4.5)),
    "dump.selection": ('"topp"', "topp"),
    "dump.fields": ('["features"]', ("features",)),
    "dump.taps": ('{pool = "layer4:mean"}', {"pool": "layer4:mean"}),
}


def load(
    *, path: Path | None = None, flags: Mapping[str, Any] | None = None, assignments: Sequence[str] = ()
) -> ExampleRecipe:
    """The example recipe with what it needs given by flags."""
    return load_recipe(
        ExampleRecipe, path=path, flags={**REQUIRED, **(flags or {})}, assignments=assignments, main_section="dump"
    )


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def value_at(recipe: ExampleRecipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("key", VALUES)
def test_toml_a_flag_and_an_assignment_set_the_same_value(key: str, tmp_path: Path) -> None:
    text, value = VALUES[key]
    required = {name: given for name, given in REQUIRED.items() if name != key}
    required |= {"valid.path": Path("held out")} if key.startswith("valid.") else {}
    as_table = {"one": {"model": "softlab:small"}} if key == "student" else value

    path = write(tmp_path, f"{key} = {text}")
    from_toml = load_recipe(ExampleRecipe, path=path, flags={**required, key: None}, assignments=[])
    from_flag = load_recipe(ExampleRecipe, path=None, flags={**required, key: as_table}, assignments=[])
    from_assignment = load_recipe(ExampleRecipe, path=None, flags=required, assignments=[f"{key}={text}"])

    assert value_at(from_toml, key) == value
    assert from_toml == from_flag == from_assignment


def test_what_is_not_given_keeps_its_default() -> None:
    assert load() == ExampleRecipe(
        out=Path("run"),
        teacher=ModelOptions(model="softlab:big"),
        source=SourceOptions(path=Path("images")),
        valid=None,
        input=InputOptions(channels=3),
        student={},
        dump=DumpOptions(),
    )


def test_assignments_override_flags_which_override_toml(tmp_path: Path) -> None:
    path = write(tmp_path, "[dump]\nviews = 2\ntemperatures = [2]\nselection = 'topp'\n")

    recipe = load(path=path, flags={"dump.views": 3, "dump.temperatures": [3]}, assignments=["dump.views=4"])

    assert recipe.dump == DumpOptions(views=4, temperatures=(3.0,), selection="topp")


def test_tables_are_merged_key_by_key(tmp_path: Path) -> None:
    path = write(tmp_path, "[teacher]\narguments = {width = 8, depth = 2}\n[student.one]\nmodel = 'softlab:small'\n")

    recipe = load(
        path=path,
        flags={"teacher.arguments": {"width": 16}, "student": {"two": {"model": "softlab:tiny"}}},
        assignments=["student.one.arguments.width=4"],
    )

    assert recipe.teacher.arguments == {"width": 16, "depth": 2}
    assert recipe.student == {
        "one": ModelOptions(model="softlab:small", arguments={"width": 4}),
        "two": ModelOptions(model="softlab:tiny"),
    }


def test_a_default_section_keeps_the_values_that_are_not_given() -> None:
    recipe = load(assignments=["input.files=['mask']"])

    assert recipe.input == InputOptions(channels=3, files=(Path("mask"),))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("out=runs/first", Path("runs/first")),  # not TOML, so a bare string
        ("out = 'runs/first'", Path("runs/first")),
        ('out="10"', Path("10")),
        ("out=a=b", Path("a=b")),
    ],
)
def test_the_value_of_an_assignment_is_toml_or_else_a_bare_string(text: str, value: Path) -> None:
    assert load(assignments=[text]).out == value


def test_a_quoted_key_of_an_assignment_may_hold_dots() -> None:
    recipe = load(assignments=['student."resnet18.a1".model=timm:resnet18.a1'])

    assert recipe.student == {"resnet18.a1": ModelOptions(model="timm:resnet18.a1")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dump]\nvews = 4", "unknown key dump.vews. Did you mean views?"),
        ("teachr.model = 'a'", "unknown key teachr. Did you mean teacher?"),
        ("[student.one]\nmodell = 'a'", "unknown key student.one.modell. Did you mean model?"),
        ("[valid]\nfrobs = 4", "unknown key valid.frobs. Known: path, shuffle_every_epoch, limit."),
        ("[dump]\nviews = 'many'", "dump.views is 'many', but must be a whole number."),
        ("[dump]\nviews = true", "dump.views is True, but must be a whole number."),
        ("[dump]\ntemperatures = 4", "dump.temperatures is 4, but must be a list, each value a number."),
        (
            "[dump]\nselection = 'all'",
            "dump.selection is 'all', but must be one of 'topk', 'topp', 'sampled', 'hybrid'.",
        ),
        ("[dump]\ntaps = {pool = 4}", "dump.taps is {'pool': 4}, but must be a table, each value a string."),
        ("[source]\nshuffle_every_epoch = 1", "source.shuffle_every_epoch is 1, but must be true or false."),
        ("[input]\nchannels = 2", "input.channels is 2, but must be one of 1, 3."),
        ("out = 5", "out is 5, but must be a path."),
        ("dump = 5", "dump is 5, but must be a table."),
        ("student = ['a']", "student is ['a'], but must be a table."),
        ("[student]\none = 'a'", "student.one is 'a', but must be a table."),
        ("[teacher]\narguments = 'a'", "teacher.arguments is 'a', but must be a table."),
        ("[dump]\nviews = 0", "--views 0: no view to store. Give at least 1."),
        ("[valid]\nlimit = 3", "valid.path is missing. Give --valid, or valid.path in a recipe."),
        (
            "[student.one]\nweights = 'a'",
            "student.one.model is missing. Give --student, or student.one.model in a recipe.",
        ),
    ],
)
def test_an_error_names_the_recipe_the_key_and_what_is_expected(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)

    with pytest.raises(InvalidOption, match=f"^{re.escape(f'{path}: {message}')}$"):
        load(path=path)


@pytest.mark.parametrize(
    ("flags", "assignments", "message"),
    [
        ({"dump.views": "many"}, [], "--views: dump.views is 'many', but must be a whole number."),
        ({}, ["dump.views=many"], "--set dump.views=many: dump.views is 'many', but must be a whole number."),
        ({}, ["dump.vews=4"], "--set dump.vews=4: unknown key dump.vews. Did you mean views?"),
        ({}, ["views"], "--set views: not an assignment. Write --set KEY=VALUE, e.g. --set source.limit=100."),
        ({}, ["a b=4"], "--set a b=4: not an assignment. Write --set KEY=VALUE, e.g. --set source.limit=100."),
        ({"dump.views": 0}, [], "--views 0: no view to store. Give at least 1."),
        ({"out": None}, [], "out is missing. Give --out, or out in a recipe."),
        ({"source.path": None}, [], "source.path is missing. Give --source, or source.path in a recipe."),
    ],
)
def test_an_error_without_a_recipe_names_the_flag_or_the_assignment(
    flags: dict[str, Any], assignments: list[str], message: str
) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(message)}$"):
        load(flags=flags, assignments=assignments)


TABLE: dict[str, Any] = {"out": "run", "teacher": {"model": "softlab:big"}, "source": {"path": "images"}}

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

    recipe = recipe_from(ExampleRecipe, TABLE | {"dump": {"views": 4}}, where="stage 1")

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
        recipe_from(ExampleRecipe, TABLE | table, where="stage 1")


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
