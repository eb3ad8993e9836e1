"""What a recipe's options are as a command: its flags, `--set` for all else, and what is said of a flag there isn't."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import typer
from typer.testing import CliRunner

from softlab.cli.flags import recipe_command
from softlab.cli.options import RECIPE_COMMANDS, recipe_kind
from softlab.errors import InvalidOption
from tests.cli.program import MLP, ROOT, TRAIN, Softlab, assert_refused
from tests.recipes.example_recipe import (
    DumpOptions,
    ExampleRecipe,
    HardLoss,
    InputOptions,
    ModelOptions,
    SourceOptions,
    StudentOptions,
    WeighedLoss,
)

REQUIRED = ["--out", "run", "--teacher", "softlab:big", "--source", "images"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clash:
    """Its `views` and its section's have the same flag."""

    flags: ClassVar[dict[str, str]] = {"views": "--views", "dump.views": "--views"}

    views: int = 1
    dump: DumpOptions = field(default_factory=DumpOptions)


def run(*arguments: str) -> ExampleRecipe:
    """The recipe that a command receives."""
    received = []

    @recipe_command(ExampleRecipe)
    def dump(recipe: ExampleRecipe) -> None:
        """Dump an example."""
        received.append(recipe)

    app = typer.Typer()
    app.command()(dump)
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    [recipe] = received
    return recipe


def show_help(*, columns: int = 160) -> str:
    @recipe_command(ExampleRecipe)
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
        *("--arguments", "width=8", "--arguments", "act=relu", "--weights", "big.safetensors"),
        *("--no-shuffle", "--limit", "100", "--valid", "held-out", "--loss", "hard"),
        *("--channels", "1", "--files", "a", "--files", "b"),
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
        valid=SourceOptions(path=Path("held-out")),
        input=InputOptions(channels=1, files=(Path("a"), Path("b"))),
        student={"small": StudentOptions(model="softlab:small"), "two": StudentOptions(model="softlab:small")},
        loss=HardLoss(),
        dump=DumpOptions(
            views=4, temperatures=(1.0, 4.5), selection="topp", fields=("features",), taps={"pool": "layer4:mean"}
        ),
    )


def test_an_option_without_a_flag_is_set_by_its_key() -> None:
    recipe = run(
        *(*REQUIRED, "--valid", "held-out", "--loss", "weighed", "--student", "softlab:small"),
        *("--set", "valid.limit=7", "--set", "loss.beta=2", "--set", "run.epochs=3"),
        *("--set", "student.small.loss={name = 'hard'}", "--set", "input.files=['a']"),
    )

    assert recipe.valid == SourceOptions(path=Path("held-out"), limit=7)
    assert (recipe.loss, recipe.run_options.epochs) == (WeighedLoss(beta=2.0), 3)
    assert recipe.student["small"].loss == HardLoss()
    assert recipe.input.files == (Path("a"),)


def test_a_recipe_file_is_overridden_by_flags_and_these_by_set(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("out = 'run'\nteacher.model = 'a'\nsource = {path = 'b', limit = 1}\nvalid.path = 'c'")

    recipe = run(str(path), "--limit", "2", "--teacher", "d", "--set", "teacher.model=e", "--set", "dump.views=3")

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
        (["--shuffle", "--no-shuffle"], "--shuffle and --no-shuffle contradict each other. Give one of them."),
        (["--views", "0"], "dump.views = 0: expected 1 or more. Change `dump.views`."),
        (["--loss", "hard", "--set", "loss.beta=2"], "--set loss.beta=2: unknown key loss.beta of hard."),
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
        r"--set +KEY=VALUE",
        r"--teacher +MODEL +Where the model comes from\. \(required\)",
        r"--weights .* Its \[trained\] weights\. +│",  # only the first paragraph
        r"--shuffle .*Whether the order is random\. \(default: yes\)",
        r"--temperatures +TEMPERATURES +Where the tail is stored\. Repeatable\. \(default: 1\.0, 2\.0, 4\.0\)",
        r"--valid +PATH +Folder of the images\. +│",  # not required: the section may be left out
        r"--selection +SELECTION +How classes are chosen\. One of topk, topp, sampled, hybrid\. \(default: topk\)",
        r"--loss +NAME +One of plain, weighed, hard\. \(default: plain\)",
        r"--channels +CHANNELS +Of an image\. One of 1, 3\. \(default: 3\)",
        r"--fields +FIELDS +What is stored\. One of logits, features\.",
        r"--taps +NAME=VALUE +Layer of a feature\.",
        r"--student +\[NAME=\]MODEL +Models to train\.",
    ],
)
def test_help_tells_each_flag_what_it_takes_and_its_real_default(pattern: str) -> None:
    assert re.search(pattern, show_help())


def test_two_options_never_share_a_flag() -> None:
    with pytest.raises(AssertionError, match="two options share a flag"):
        recipe_command(Clash)


def test_help_cuts_no_flag_short_in_a_terminal_of_80_columns() -> None:
    text = show_help(columns=80)

    assert all(flag + " " in text for flag in ExampleRecipe.flags.values())


# The flags of each command.

OF_DATA = ("--source", "--limit")
OF_INPUT = ("--size", "--channels", "--mean", "--std")
FLAGS: dict[str, tuple[str, ...]] = {
    "dump-teacher": (
        *("--out", "--teacher", "--weights", *OF_DATA, "--skip-unreadable", *OF_INPUT),
        *(
            "--augment",
            "--plan",
            "--shards",
            "--k",
            "--temperature",
            "--head",
            "--output",
            "--feature",
            "--views",
            "--coding",
        ),
        *("--format", "--shard-rows", "--batch-size", "--devices", "--engine", "--device", "--autocast", "--workers"),
    ),
    "import": (
        *("--predictions", "--out", *OF_DATA, "--kind", "--column", "--key-column", "--num-classes", "--by-position"),
        *("--class-names", "--k", "--temperature", "--head", "--output", "--coding", "--format", "--shard-rows"),
    ),
    "train-student": (
        *("--out", "--store", "--source", "--valid", "--valid-store", "--student", "--feature", *OF_INPUT),
        *("--epochs", "--batch-size", "--max-samples", "--seed", "--alpha", "--loss", "--temperature"),
        *("--learning-rate", "--baseline", "--subset", "--device", "--workers", "--search", "--resume"),
        "--require-signature",
    ),
    "train-teacher": (
        *("--out", "--teacher", "--weights", *OF_DATA, "--valid", *OF_INPUT, "--augment"),
        *("--epochs", "--batch-size", "--max-samples", "--seed", "--label-smoothing", "--learning-rate"),
        *("--device", "--autocast", "--workers", "--resume"),
    ),
    "evaluate": (
        *("--model", "--weights", *OF_DATA, "--store", "--output", *OF_INPUT, "--batch-size", "--per-class"),
        *("--subset", "--device", "--autocast", "--workers", "--json"),
    ),
    "bench": (
        *("--store", "--quick", "--rounds", "--json", "--batch-size", "--student", *OF_DATA, *OF_INPUT, "--feature"),
        *("--loss", "--device", "--cache-dir", "--cache-max-bytes"),
    ),
    "catalog": ("--url", "--search", *OF_DATA, "--contents", "--json"),
}
"""All of them: one more is a decision, for each makes the others harder to find."""

MOST_FLAGS = 28
ARGUMENTS = {"bench": "--store", "catalog": "--url", "import": "--predictions"}
"""Flags that are an argument instead."""

WITHOUT_A_RECIPE = {"inspect": ("--rows", "--thumbnails", "--source", "--json"), "chain": ("--show",)}
"""Of a command whose options can't be set by key."""


@pytest.mark.parametrize("command", WITHOUT_A_RECIPE)
def test_a_command_without_a_recipe_has_these_flags_and_no_others(command: str, softlab: Softlab) -> None:
    shown = re.findall(r"^│ (--[a-z-]+) ", softlab(command, "--help").out, re.MULTILINE)

    assert shown == [*WITHOUT_A_RECIPE[command], "--help"]


def test_commands_with_a_recipe_are_those_with_frozen_flags() -> None:
    assert set(FLAGS) == set(RECIPE_COMMANDS)


@pytest.mark.parametrize("command", FLAGS)
def test_a_command_has_these_flags_and_no_others(command: str, softlab: Softlab) -> None:
    kind = recipe_kind(command)

    shown = re.findall(r"^│ (--[a-z-]+) ", softlab(command, "--help").out, re.MULTILINE)

    assert tuple(kind.flags.values()) == FLAGS[command]
    assert len(FLAGS[command]) <= MOST_FLAGS
    assert shown == [*(flag for flag in FLAGS[command] if flag != ARGUMENTS.get(command)), "--set", "--help"]


@pytest.mark.parametrize("command", FLAGS)
def test_a_flag_is_named_after_its_option(command: str) -> None:
    """After its section where the last word of its key says too little, or after both."""
    for key, flag in recipe_kind(command).flags.items():
        section, _, name = key.rpartition(".")
        assert flag.removeprefix("--").replace("-", "_") in (name, section, f"{section}_{name}")


def test_the_help_of_train_student_fits_on_a_screen(softlab: Softlab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")

    lines = softlab("train-student", "--help").out.splitlines()

    assert len(lines) <= 50
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("path", ["softlab/card/render.py", "softlab/sharing/catalogue/web/commands.js"])
def test_commands_that_others_read_on_a_card_or_the_page_have_flags_that_there_are(path: str) -> None:
    printed = set(re.findall(r"(?<= )--[a-z][a-z-]*", (ROOT / path).read_text()))

    assert {"--store", "--source", "--student", "--loss", "--alpha", "--out"} <= printed
    assert printed <= {*FLAGS["train-student"], "--set", "--signer"}  # the last is one of `softlab verify`


# Flags that there aren't.


def usage_error(softlab: Softlab, *arguments: object) -> str:
    """What is in the frame, in one line."""
    answer = softlab(*arguments)
    assert (answer.code, answer.out) == (2, "")
    framed = [line.strip("│ ") for line in answer.err.splitlines() if line.startswith("│")]
    return " ".join(framed)


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--label-smoothing", "Write --set targets.label_smoothing=VALUE."),
        ("--beta", "Write --set loss.beta=VALUE."),
        ("--limit", "Write --set source.limit=VALUE or --set valid.limit=VALUE."),
        ("--weights", "Write --set teacher.weights=VALUE."),
        ("--dkd-beta", "Write --set loss.beta=VALUE."),
        ("--optimizer", "Write --set optimizer.name=VALUE."),
        ("--teacher-weight", "Write --set teachers.weight=VALUE."),
        ("--teacher", "Write --set teacher.model=VALUE."),
        ("--prune", "Write --set prune.amount=VALUE."),
        ("--augment", "Write --set augment.transforms=VALUE."),
        ("--epoch", "Did you mean --epochs?"),
        ("--tempratur", "Did you mean --temperature?"),
        ("--label-smothing", "Did you mean --set targets.label_smoothing=VALUE?"),
        ("--frobnicate", "See `softlab options` for all of them."),
    ],
)
def test_of_a_flag_that_train_student_lacks_it_is_told_what_to_write(softlab: Softlab, flag: str, told: str) -> None:
    assert usage_error(softlab, "train-student", flag, "1") == f"No such option: {flag}. {told}"


def test_of_an_options_key_as_a_flag_without_a_value_it_is_told_too(softlab: Softlab) -> None:
    told = usage_error(softlab, "train-student", "--loss-beta")

    assert told == "No such option: --loss-beta. Write --set loss.beta=VALUE."


@pytest.mark.parametrize(
    ("command", "flag", "told"),
    [
        ("dump-teacher", "--transforms", "Write --augment."),
        ("dump-teacher", "--subset", "See `softlab options` for all of them."),
        ("dump-teacher", "--channels-last", "Write --set device.channels_last=VALUE."),
        ("train-teacher", "--track", "Write --set log.track=VALUE."),
        ("train-teacher", "--loss", "See `softlab options` for all of them."),
        ("evaluate", "--track", "See `softlab options` for all of them."),
        ("evaluate", "--verify-inputs", "Write --set check.verify_inputs=VALUE."),
        ("catalog", "--class-names", "Write --set source.class_names=VALUE."),
    ],
)
def test_what_is_told_is_of_the_command(softlab: Softlab, command: str, flag: str, told: str) -> None:
    assert usage_error(softlab, command, flag, "1") == f"No such option: {flag}. {told}"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("loss.beta=0.5", "unknown key loss.beta of kl. It is an option of jensen_shannon and dkd alone."),
        ("optimizer.alpha=0.5", "unknown key optimizer.alpha. Did you mean `teachers.alpha` (--alpha) or"),
        ("run.subset=true", "unknown key run.subset. Did you mean `check.subset` (--subset)?"),
        ("teachers.temperature=2", "unknown key teachers.temperature. Did you mean `loss.temperature` (--temp"),
        ("train.alpha=0.5", "unknown key train. train.alpha is now `teachers.alpha` (--alpha)."),
        ("train.dist_inter=2", "unknown key train. train.dist_inter is now `loss.inter`."),
    ],
)
def test_an_option_is_of_one_owner(softlab: Softlab, assignment: str, message: str) -> None:
    answer = softlab("train-student", "--store", "a", "--out", "b", *TRAIN, *MLP, "--set", assignment)

    assert_refused(answer, f"error: --set {assignment}: {message}")


@pytest.mark.parametrize("assignment", ["loss.name=dkd", "teachers.alpha=0.5", "distil.baseline=true", "store=['a']"])
def test_train_teacher_refuses_options_of_distillation(softlab: Softlab, assignment: str) -> None:
    answer = softlab("train-teacher", "--teacher", "softlab:grey_mlp", "--out", "a", *TRAIN, "--set", assignment)

    assert_refused(answer, f"error: --set {assignment}: unknown key {assignment.split('=')[0].split('.')[0]}.")
