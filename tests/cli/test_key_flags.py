from pathlib import Path

import pytest

from softlab.cli.key_flags import SHORT_FLAGS, as_assignments, flags_of_keys
from softlab.cli.options import RECIPE_COMMANDS, recipe_kind
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.options import ANY_NAME, option_fields
from softlab.recipes.teacher import TeacherRecipe
from softlab.recipes.train import TrainRecipe
from tests.cli.program import DATA, INPUT, MLP, SHORT, TEACHER, Softlab

SHOWN = tuple(DumpRecipe.flags.values())


@pytest.mark.parametrize("command", RECIPE_COMMANDS)
def test_each_key_has_a_flag_of_its_own(command: str) -> None:
    kind = recipe_kind(command)

    keys = [option.key for option in option_fields(kind) if ANY_NAME not in option.key]
    assert len(flags_of_keys(kind).keys() - set(SHORT_FLAGS.values())) == len(keys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--source-kind", "folder"], ["--set", "source.kind=folder"]),
        (["--source-kind=folder"], ["--set", "source.kind=folder"]),
        (["--dump-shard-rows", "64", "--k", "5"], ["--set", "dump.shard_rows=64", "--k", "5"]),
        (
            ["--source-class-names", "cat", "--source-class-names", "1"],
            ["--set", 'source.class_names=["cat", "1"]'],
        ),
        (["--source-targets", "1", "--source-targets", "2"], ["--set", "source.targets=[1, 2]"]),
        (["--teacher-arguments", "num_classes=2"], ["--set", 'teacher.arguments."num_classes"=2']),
        (["--device-channels-last"], ["--set", "device.channels_last=true"]),
        (["--no-device-channels-last"], ["--set", "device.channels_last=false"]),
        (["--source-kind"], ["--source-kind"]),
        (["--k", "5", "--source-knd", "x"], ["--k", "5", "--source-knd", "x"]),
        (["recipe.toml", "--like", "x", "--set", "like=y"], ["--set", "like=x", "recipe.toml", "--set", "like=y"]),
    ],
)
def test_a_flag_under_a_key_is_an_assignment(arguments: list[str], expected: list[str]) -> None:
    assert as_assignments(arguments, DumpRecipe, shown=SHOWN) == expected


def test_a_short_flag_is_one_of_its_key() -> None:
    expected = ["--set", "distil.keep=max_prob >= 0.9"]

    assert as_assignments(["--keep", "max_prob >= 0.9"], TrainRecipe, shown=()) == expected
    assert as_assignments(["--keep", "1"], DumpRecipe, shown=()) == ["--keep", "1"]
    for kind in (TrainRecipe, TeacherRecipe):
        assert as_assignments(["--views-per-image", "4"], kind, shown=()) == ["--set", "run.views_per_image=4"]


def test_a_run_is_the_same_however_its_options_are_given(softlab: Softlab, tmp_path: Path) -> None:
    source = ("--source", DATA / "test", "--source-limit", "60")
    dump = softlab("dump-teacher", *TEACHER, *source, "--k", 3, "--out", tmp_path / "store")
    run = ("train-student", "--store", tmp_path / "store", *source, *INPUT, *MLP, *SHORT)

    one = softlab(*run, "--targets-label-smoothing", 0.1, "--log-track", "tensorboard", "--out", tmp_path / "one")
    other = softlab(*run, "--set", "targets.label_smoothing=0.1", "--out", tmp_path / "other")

    assert (dump.code, one.code, other.code) == (0, 0, 0), one.err
    first, second = ((tmp_path / name / "mlp/last.safetensors").read_bytes() for name in ("one", "other"))
    assert first == second
