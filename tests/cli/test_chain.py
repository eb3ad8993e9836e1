"""`softlab chain`: several commands from one recipe, those that are finished skipped."""

import json
from pathlib import Path
from typing import Any

import pytest

from softlab.cli.chain import run_chain
from softlab.recipe import read_toml
from tests.cli.program import DATA, ROOT, Softlab, assert_refused, open_uncached

COMMON = f"""
[common]
source = {{ path = "{DATA / "train"}", limit = 200 }}
input = {{ mean = [0.286], std = [0.353] }}
dump = {{ k = 4, shard_rows = 64 }}
train = {{ epochs = 1, batch_size = 50 }}
"""

ASSISTANT = """
[[stage]]
command = "train-teacher"
out = "teacher"
teacher.model = "softlab:grey_cnn"

[[stage]]
command = "dump-teacher"
out = "teacher.zarr"
teacher = { model = "softlab:grey_cnn", weights = "teacher/teacher/last.safetensors" }
dump.k = 6

[[stage]]
command = "train-student"
out = "assistant"
store = ["teacher.zarr"]
student.middle = { model = "softlab:grey_mlp", arguments = { width = 64 } }

[[stage]]
command = "dump-teacher"
out = "assistant.zarr"
teacher = { model = "softlab:grey_mlp", arguments = { width = 64 }, weights = "assistant/middle/last.safetensors" }

[[stage]]
command = "train-student"
out = "student"
store = ["assistant.zarr"]
student.small.model = "softlab:grey_mlp"
train.loss = "jensen_shannon"
"""

OUTS = ("teacher", "teacher.zarr", "assistant", "assistant.zarr", "student")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the recipes' paths are relative to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str) -> str:
    Path("chain.toml").write_text(text)
    return "chain.toml"


def files(folder: Path) -> dict[str, int]:
    """When each was written last."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


# A teacher's assistant.


def test_a_chain_runs_its_stages_and_skips_them_when_they_are_finished(here: Path, softlab: Softlab) -> None:
    first = softlab("chain", write(COMMON + ASSISTANT))
    written = files(here)
    second = softlab("chain", "chain.toml")

    commands = ["train-teacher", "dump-teacher", "train-student", "dump-teacher", "train-student"]
    stages = enumerate(zip(commands, OUTS, strict=True), start=1)
    told = [f"== {number} of 5: {command} {out}" for number, (command, out) in stages]
    assert (first.code, first.err.splitlines()) == (0, told)
    assert (second.code, second.err.splitlines()) == (0, told)
    assert second.out.count("nothing to do, it was finished") == 2
    assert first.out.count("nothing to do") == 0
    assert files(here) == written


def test_a_stage_has_what_is_common_where_it_does_not_say_otherwise(here: Path, softlab: Softlab) -> None:
    softlab("chain", write(COMMON + ASSISTANT))

    teacher, assistant = open_uncached(here / "teacher.zarr"), open_uncached(here / "assistant.zarr")
    run = json.loads((here / "student/run.json").read_text())
    assert (teacher.num_samples, teacher.k, assistant.k) == (200, 6, 4)
    assert {len(store.manifest.shards) for store in (teacher, assistant)} == {4}  # both have the common shard_rows
    assert (run["options"]["epochs"], run["options"]["loss"]) == (1, "jensen_shannon")
    assert run["stores"] == [assistant.digest]


def test_a_chain_that_was_stopped_goes_on_with_the_stage_that_is_not_finished(here: Path, softlab: Softlab) -> None:
    recipe = write(COMMON + ASSISTANT.replace("teacher/teacher/last", "teacher/teacher/lst"))
    stopped = softlab("chain", recipe)
    written = files(here)
    del written["chain.toml"]

    answer = softlab("chain", write(COMMON + ASSISTANT))

    assert stopped.code == 1
    assert stopped.err.endswith("error: teacher/teacher/lst.safetensors: no such file. Check `weights`.\n")
    assert {Path(name).parts[0] for name in written} == {"teacher"}
    assert answer.code == 0
    assert files(here).items() >= written.items()
    assert all((here / out).exists() for out in OUTS)


CHAINS = [path for path in sorted((ROOT / "pipelines").rglob("*.toml")) if "stage" in read_toml(path)]


@pytest.mark.parametrize("recipe", CHAINS, ids=lambda path: path.stem)
def test_the_chains_of_the_project_run(here: Path, recipe: Path) -> None:
    """On a few samples."""
    (here / "data").symlink_to(ROOT / "data")
    document = shortened(read_toml(recipe))

    run_chain(document, where=recipe.name)

    assert all(Path(stage["out"]).exists() for stage in document["stage"])


def shortened(document: dict[str, Any]) -> dict[str, Any]:
    for table in [document.get("common", {}), *document["stage"]]:
        for source in ("source", "valid"):
            if source in table:
                table[source]["limit"] = 100
        if "train" in table:
            table["train"] |= {"epochs": 1, "warmup_epochs": 0, "batch_size": 50}
    return document


# Recipes that are wrong: refused before any stage runs.

TEACHER_STAGE = '[[stage]]\ncommand = "train-teacher"\nout = "teacher"\nteacher.model = "softlab:grey_mlp"\n'
STUDENT = 'command = "train-student"\nout = "s"\nstore = ["a"]\nstudent.a.model = "softlab:grey_mlp"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no stages. Write a [[stage]] table for each command to run."),
        ("stage = []", "has no stages. Write a [[stage]] table for each command to run."),
        ('stage = ["train-teacher"]', "has no stages. Write a [[stage]] table for each command to run."),
        ('[stage]\ncommand = "train-teacher"', "has no stages. Write a [[stage]] table for each command to run."),
        (TEACHER_STAGE + "[[stages]]", "unknown key stages. Did you mean stage?"),
        ("common = 3\n" + TEACHER_STAGE, "common is 3, but must be a table."),
        (
            "[[stage]]\nout = 'a'",
            "stage 1: command is missing. Give one of train-teacher, dump-teacher, train-student, evaluate.",
        ),
        (
            TEACHER_STAGE + "[[stage]]\ncommand = 'dump-techer'",
            "stage 2: command is 'dump-techer'. Did you mean dump-teacher?",
        ),
        ("[[stage]]\ncommand = ['evaluate']", "stage 1: command is ['evaluate']. Did you mean evaluate?"),
        (
            "[common]\nsorce = {path = 'a'}\n" + TEACHER_STAGE,
            "unknown key common.sorce. Did you mean source or store?",
        ),
        (TEACHER_STAGE + "tran.epochs = 1\n", "stage 1 (train-teacher): unknown key tran. Did you mean train?"),
        (
            TEACHER_STAGE + "source.path = 'a'\ntrain.epochs = 'many'\n",
            "stage 1 (train-teacher): train.epochs is 'many', but must be a whole number.",
        ),
        (TEACHER_STAGE, "stage 1 (train-teacher): source.path is missing. Give it there."),
        (
            COMMON + TEACHER_STAGE + "[[stage]]\n" + STUDENT + "train.alpha = 2",
            "stage 2 (train-student): alpha = 2.0: expected 0 to 1. Change --alpha.",
        ),
        (
            COMMON + TEACHER_STAGE + "[[stage]]\n" + STUDENT + "student.a.train.temperatur = 2",
            "stage 2 (train-student): [student.a.train]: unknown key temperatur. Did you mean temperature or",
        ),
        (
            COMMON + TEACHER_STAGE + "[[stage]]\n" + STUDENT + "search.trials = 2",
            "stage 2 (train-student): a search tries one student on a validation source. Give one --student, and",
        ),
    ],
)
def test_a_wrong_chain_is_refused_before_any_stage_runs(here: Path, softlab: Softlab, text: str, message: str) -> None:
    answer = softlab("chain", write(text))

    assert_refused(answer, f"error: chain.toml: {message}")
    assert [path.name for path in here.iterdir()] == ["chain.toml"]


def test_a_chain_that_is_not_there_is_refused(here: Path, softlab: Softlab) -> None:
    assert_refused(softlab("chain", "none.toml"), "none.toml: can't read this recipe", "Give the path of a TOML file.")
