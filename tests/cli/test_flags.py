import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from softlab.cli.flags import recipe_command
from softlab.errors import InvalidOption
from softlab.recipes.options import option_fields
from tests.recipes.example_recipe import DumpOptions, ExampleRecipe, InputOptions, ModelOptions, SourceOptions

REQUIRED = ["--out", "run", "--teacher", "softlab:big", "--source", "images"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clash:
    """Its `views` and its section's have the same flag."""

    views: int = 1
    dump: DumpOptions = field(default_factory=DumpOptions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    amount: float
    begin: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    prune: Pruning | None = None
    stages: dict[str, Pruning] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Nested:
    """A section in the main section, and named ones."""

    train: Training = field(default_factory=Training)


def run(*arguments: str) -> ExampleRecipe:
    """The recipe that a command receives."""
    received = []

    @recipe_command(ExampleRecipe, main_section="dump")
    def dump(recipe: ExampleRecipe) -> None:
        """Dump an example."""
        received.append(recipe)

    app = typer.Typer()
    app.command()(dump)
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    [recipe] = received
    return recipe


def show_help(*, columns: int = 160) -> str:
    @recipe_command(ExampleRecipe, main_section="dump")
    def dump(recipe: ExampleRecipe) -> None:
        """Dump an example."""

    app = typer.Typer()
    app.command()(dump)
    return CliRunner().invoke(app, ["--help"], env={"COLUMNS": str(columns), "NO_COLOR": "1"}).output


def test_flags_alone_make_a_recipe() -> None:
    assert run(*REQUIRED) == ExampleRecipe(
        out=Path("run"), teacher=ModelOptions(model="softlab:big"), source=SourceOptions(path=Path("images"))
    )


def test_every_type_of_option_has_a_flag() -> None:
    recipe = run(
        *REQUIRED,
        *("--teacher-arguments", "width=8", "--teacher-arguments", "act=relu", "--teacher-weights", "big.safetensors"),
        *(
            "--no-source-shuffle-every-epoch",
            "--source-limit",
            "100",
            "--valid",
            "held-out",
            "--valid-shuffle-every-epoch",
        ),
        *("--input-channels", "1", "--input-files", "a", "--input-files", "b"),
        *("--student", "softlab:small", "--student", "two=softlab:small"),
        *("--views", "4", "--temperatures", "1", "--temperatures", "4.5", "--selection", "topp"),
        *("--fields", "features", "--taps", "pool=layer4:mean"),
    )

    assert recipe == ExampleRecipe(
        out=Path("run"),
        teacher=ModelOptions(
            model="softlab:big", arguments={"width": 8, "act": "relu"}, weights=Path("big.safetensors")
        ),
        source=SourceOptions(path=Path("images"), shuffle_every_epoch=False, limit=100),
        valid=SourceOptions(path=Path("held-out"), shuffle_every_epoch=True),
        input=InputOptions(channels=1, files=(Path("a"), Path("b"))),
        student={"small": ModelOptions(model="softlab:small"), "two": ModelOptions(model="softlab:small")},
        dump=DumpOptions(
            views=4, temperatures=(1.0, 4.5), selection="topp", fields=("features",), taps={"pool": "layer4:mean"}
        ),
    )


def test_a_recipe_file_is_overridden_by_flags_and_these_by_set(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("out = 'run'\nteacher.model = 'a'\nsource = {path = 'b', limit = 1}\nvalid.path = 'c'")

    recipe = run(
        str(path), "--set", "source.limit=2", "--teacher", "d", "--set", "teacher.model=e", "--set", "dump.views=3"
    )

    assert recipe.source == SourceOptions(path=Path("b"), limit=2)
    assert recipe.teacher.model == "e"
    assert recipe.dump.views == 3
    assert recipe.valid == SourceOptions(path=Path("c"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--taps", "pool"], "--taps pool: no value. Write --taps NAME=VALUE."),
        (
            ["--student", "softlab:small", "--student", "timm:small"],
            "--student: small is given twice. Give each a name of its own: NAME=VALUE.",
        ),
        (["--fields", "tail"], "--fields: dump.fields is ['tail'], but must be a list, each value one of"),
        (
            ["--source-shuffle-every-epoch", "--no-source-shuffle-every-epoch"],
            "--source-shuffle-every-epoch and --no-source-shuffle-every-epoch contradict each other. Give one of them.",
        ),
        (["--views", "0"], "--views 0: no view to store. Give at least 1."),
    ],
)
def test_a_wrong_flag_is_an_invalid_option_that_names_it(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(message)}"):
        run(*REQUIRED, *arguments)


@pytest.mark.parametrize(
    "pattern",
    [
        r"Dump an example\.",
        r"Usage: .* \[OPTIONS\] \[?RECIPE",
        r"─ \[student\.NAME\] ─",
        r"--set +KEY=VALUE",
        r"─ \[teacher\] ─",
        r"--teacher +MODEL +Where the model comes from\. \(required\)",
        r"--teacher-weights .* Its \[trained\] weights\.",
        r"--source-shuffle-every-epoch .*Whether the order is random\. \(default: yes; --no-source-shuffle",
        r"--temperatures .* Where the tail is stored\. Repeatable\. \(default: 1\.0, 2\.0, 4\.0\)",
        r"--valid +PATH +Folder of the images\. +│",  # not required: the section may be left out
        r"--selection +SELECTION +How classes are chosen\. One of topk, topp, sampled, hybrid\. \(default: topk\)",
        r"--input-channels +CHANNELS +Of an image\. One of 1, 3\. \(default: 3\)",
        r"--fields +FIELDS +What is stored\. One of logits, features\.",
        r"--taps +NAME=VALUE +Layer of a feature\.",
        r"--student +\[NAME=\]MODEL +Models to train\.",
    ],
)
def test_help_tells_each_flag_what_it_takes_and_its_real_default(pattern: str) -> None:
    assert re.search(pattern, show_help())


def test_a_section_in_the_main_section_has_flags_without_its_name() -> None:
    options = option_fields(Nested, main_section="train")

    assert {option.key: option.flag for option in options} == {
        "train.prune.amount": "--prune",
        "train.prune.begin": "--prune-begin",
        "train.stages": "--stages",
    }


def test_two_options_never_share_a_flag() -> None:
    with pytest.raises(AssertionError, match="two options share a flag"):
        recipe_command(Clash, main_section="dump")


def test_help_cuts_no_flag_short_in_a_terminal_of_80_columns() -> None:
    text = show_help(columns=80)

    assert all(option.flag + " " in text for option in option_fields(ExampleRecipe, main_section="dump"))
