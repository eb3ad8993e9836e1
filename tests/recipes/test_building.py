import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.recipes.building import load_recipe, recipe_from
from tests.recipes.example_recipe import (
    DumpOptions,
    ExampleRecipe,
    HardLoss,
    InputOptions,
    ModelOptions,
    PlainLoss,
    RunOptions,
    SourceOptions,
    StudentOptions,
    WeighedLoss,
)

ANY_WAY = "Give it as a flag, with --set, or in a recipe."

REQUIRED = {"out": Path("run"), "teacher.model": "softlab:big", "source.path": Path("images")}

NEEDS: dict[str, dict[str, Any]] = {"valid.": {"valid.path": Path("held out")}, "loss.beta": {"loss.name": "weighed"}}
"""What must be given beside some options."""

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
    "student": ('{one = {model = "softlab:small"}}', {"one": StudentOptions(model="softlab:small")}),
    "run.epochs": ("3", 3),
    "loss.name": ('"hard"', "hard"),
    "loss.temperature": ("2", 2.0),
    "loss.beta": ("3", 3.0),
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
    return load_recipe(ExampleRecipe, path=path, flags=as_flags({**REQUIRED, **(flags or {})}), assignments=assignments)


def as_flags(values: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    return {key: (ExampleRecipe.flags.get(key, "--flag"), value) for key, value in values.items()}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def value_at(recipe: ExampleRecipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, "run_options" if name == "run" else name)
    return value


@pytest.mark.parametrize("key", VALUES)
def test_toml_a_flag_and_an_assignment_set_the_same_value(key: str, tmp_path: Path) -> None:
    text, value = VALUES[key]
    needs = next((each for name, each in NEEDS.items() if key.startswith(name)), {})
    required = {name: given for name, given in (REQUIRED | needs).items() if name != key}
    as_table = {"one": {"model": "softlab:small"}} if key == "student" else value

    path = write(tmp_path, f"{key} = {text}")
    from_toml = load_recipe(ExampleRecipe, path=path, flags=as_flags({**required, key: None}))
    from_flag = load_recipe(ExampleRecipe, flags=as_flags({**required, key: as_table}))
    from_assignment = load_recipe(ExampleRecipe, flags=as_flags(required), assignments=[f"{key}={text}"])

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
        run_options=RunOptions(),
        loss=PlainLoss(),
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
        "one": StudentOptions(model="softlab:small", arguments={"width": 4}),
        "two": StudentOptions(model="softlab:tiny"),
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

    assert recipe.student == {"resnet18.a1": StudentOptions(model="timm:resnet18.a1")}


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
        ("[dump]\nviews = 0", "dump.views = 0: expected 1 or more. Change `dump.views`."),
        ("[valid]\nlimit = 3", f"`valid.path` is missing. {ANY_WAY}"),
        ("[student.one]\nweights = 'a'", f"`student.one.model` is missing. {ANY_WAY}"),
        ("loss = 'plain'", "loss is 'plain', but must be a table."),
        ("[loss]\nname = 'weighd'", "loss.name is 'weighd'. Did you mean weighed?"),
        ("[dump]\nepochs = 3", "unknown key dump.epochs. Did you mean `run.epochs`?"),
        ("[loss]\nname = ['hard']", "loss.name is ['hard']. Did you mean hard?"),
        ("[loss]\nbeta = 2", "unknown key loss.beta of plain. It is an option of weighed alone."),
        (
            "[loss]\nname = 'hard'\ntemperature = 2",
            "unknown key loss.temperature of hard. It is an option of plain and weighed alone.",
        ),
        ("[loss]\ntemperature = 'hot'", "loss.temperature is 'hot', but must be a number."),
        ("[loss]\ntemperature = 0", "temperature = 0.0: expected more than 0. Change `loss.temperature`."),
        (
            "[student.one]\nmodel = 'a'\nloss.beta = 2",
            "unknown key student.one.loss.beta of plain. It is an option of weighed alone.",
        ),
        (
            "[student.one]\nmodel = 'a'\nloss.temperature = 0",
            "temperature = 0.0: expected more than 0. Change `student.one.loss.temperature`.",
        ),
        ("[dump.run]\nepochs = 3", "unknown key dump.run. Known: views, temperatures, selection, fields, taps."),
        ("[run_options]\nepochs = 3", "unknown key run_options. Known: out, teacher, source, valid, input, ..."),
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
        ({"loss.name": "weighd"}, [], "--loss: loss.name is 'weighd'. Did you mean weighed?"),
        (
            {"loss.name": "hard"},
            ["loss.beta=2"],
            "--set loss.beta=2: unknown key loss.beta of hard. It is an option of weighed alone.",
        ),
        ({"dump.views": 0}, [], "dump.views = 0: expected 1 or more. Change `dump.views`."),
        ({"out": None}, [], f"`out` is missing. {ANY_WAY}"),
        ({"source.path": None}, [], f"`source.path` is missing. {ANY_WAY}"),
    ],
)
def test_an_error_without_a_recipe_names_the_flag_or_the_assignment(
    flags: dict[str, Any], assignments: list[str], message: str
) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(message)}$"):
        load(flags=flags, assignments=assignments)


TABLE: dict[str, Any] = {"out": "run", "teacher": {"model": "softlab:big"}, "source": {"path": "images"}}

# From a table.


def test_a_table_makes_the_recipe_that_a_file_with_it_makes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("out = 'run'\nteacher.model = 'softlab:big'\nsource.path = 'images'\ndump.views = 4\n")

    recipe = recipe_from(ExampleRecipe, TABLE | {"dump": {"views": 4}}, where="stage 1")

    assert recipe == load_recipe(ExampleRecipe, path=path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"dump": {"vews": 4}}, "unknown key dump.vews. Did you mean views?"),
        ({"dump": {"views": "many"}}, "dump.views is 'many', but must be a whole number."),
        ({"dump": {"views": 0}}, "dump.views = 0: expected 1 or more. Change `dump.views`."),
        ({"source": {}}, f"`source.path` is missing. {ANY_WAY}"),
        ({"student": {"one": {}}}, f"`student.one.model` is missing. {ANY_WAY}"),
    ],
)
def test_an_error_names_the_table(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(f'stage 1: {message}')}$"):
        recipe_from(ExampleRecipe, TABLE | table, where="stage 1")


# Sections that are one of several, by their name.


def test_the_name_of_a_section_says_which_options_it_has(tmp_path: Path) -> None:
    path = write(tmp_path, "[loss]\nname = 'weighed'\nbeta = 2\n")

    assert load(path=path).loss == WeighedLoss(beta=2.0)
    assert load(assignments=["loss.name=hard"]).loss == HardLoss()
    assert load(assignments=["loss.temperature=2"]).loss == PlainLoss(temperature=2.0)


def test_the_name_may_be_a_flag_and_the_options_anywhere_else(tmp_path: Path) -> None:
    path = write(tmp_path, "[loss]\nbeta = 2\n")

    recipe = load(path=path, flags={"loss.name": "weighed"}, assignments=["loss.temperature=3"])

    assert recipe.loss == WeighedLoss(beta=2.0, temperature=3.0)


def test_another_name_that_is_given_later_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "[loss]\nname = 'hard'\n")

    assert load(path=path, assignments=["loss.name=weighed"]).loss == WeighedLoss()


# Sections of a named one that begin from the recipe's.

STUDENTS = """
[student.plain]
model = "a:b"

[student.own]
model = "a:c"
"""


def own_student(folder: Path, *sections: str) -> StudentOptions:
    """The one of the two that has sections of its own; the other one has none."""
    students = load(path=write(folder, STUDENTS + "\n".join(sections))).student
    assert students["plain"] == StudentOptions(model="a:b")
    return students["own"]


def test_what_a_students_section_does_not_say_is_as_the_recipe_says(tmp_path: Path) -> None:
    own = own_student(
        tmp_path,
        *("[input]\nchannels = 1\nfiles = ['a']", "[student.own.input]\nfiles = ['b']"),
        *("[loss]\nname = 'weighed'\ntemperature = 2\nbeta = 3", "[student.own.loss]\nbeta = 4"),
    )

    assert own.input == InputOptions(channels=1, files=(Path("b"),))
    assert own.loss == WeighedLoss(temperature=2.0, beta=4.0)


@pytest.mark.parametrize(
    ("recipes", "own", "expected"),
    [
        ("name = 'weighed'\ntemperature = 2", "name = 'plain'", PlainLoss()),
        ("temperature = 2", "name = 'weighed'", WeighedLoss()),  # the recipe's is plain, though it doesn't say so
        ("temperature = 2", "name = 'plain'", PlainLoss(temperature=2.0)),
        ("name = 'weighed'\nbeta = 2", "name = 'weighed'\ntemperature = 3", WeighedLoss(beta=2.0, temperature=3.0)),
        ("name = 'weighed'\nbeta = 2", "name = 'hard'", HardLoss()),
        ("", "temperature = 3", PlainLoss(temperature=3.0)),
    ],
)
def test_a_section_of_another_name_begins_from_its_own_defaults(
    tmp_path: Path, recipes: str, own: str, expected: object
) -> None:
    assert own_student(tmp_path, f"[loss]\n{recipes}", f"[student.own.loss]\n{own}").loss == expected


def test_a_students_table_of_names_replaces_the_recipes(tmp_path: Path) -> None:
    taps = "[dump.taps]\npool = 'layer4'"

    assert own_student(tmp_path, taps, "[student.own.taps]\nstem = 'layer1'").taps == {"stem": "layer1"}
    assert own_student(tmp_path, taps, "[student.own.taps]").taps == {}
    assert own_student(tmp_path, taps).taps is None


def test_a_students_section_may_be_set_too(tmp_path: Path) -> None:
    path = write(tmp_path, STUDENTS)

    recipe = load(path=path, flags={"loss.name": "weighed"}, assignments=["student.own.loss.beta=2"])

    assert recipe.student["own"].loss == WeighedLoss(beta=2.0)
