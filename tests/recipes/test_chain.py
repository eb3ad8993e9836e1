"""Several runs from one recipe: what each stage is, which chains are refused, and that those of the project run."""

import re
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.recipes.chain import ChainRecipe
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.toml import read_toml
from softlab.recipes.train import TrainRecipe
from softlab.student.run_folder import StudentResult
from softlab.teacher.dump import DumpSummary
from tests.recipes.demo import ASSISTANT, COMMON, DATA, ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the recipes' paths are relative to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str) -> ChainRecipe:
    Path("chain.toml").write_text(text)
    return ChainRecipe.load("chain.toml")


@pytest.mark.usefixtures("here")
def test_a_stage_has_what_is_common_where_it_does_not_say_otherwise() -> None:
    stages = load(COMMON + ASSISTANT).stages

    recipes = [stage.recipe for stage in stages]
    dumps = [recipe for recipe in recipes if isinstance(recipe, DumpRecipe)]
    trainings = [recipe for recipe in recipes if isinstance(recipe, TrainRecipe)]
    assert {(recipe.source.path, recipe.source.limit) for recipe in recipes} == {(str(DATA / "train"), 200)}
    assert [recipe.dump.k for recipe in dumps] == [6, 4]
    assert {recipe.dump.shard_rows for recipe in dumps} == {64}
    assert [recipe.loss.name for recipe in trainings] == ["kl", "jensen_shannon"]
    assert {recipe.run_options.epochs for recipe in trainings} == {1}


@pytest.mark.usefixtures("here")
def test_a_stage_tells_its_command_and_where_it_writes() -> None:
    evaluation = "[[stage]]\ncommand = 'evaluate'\nmodel.model = 'softlab:grey_mlp'\n"

    stages = load(COMMON + ASSISTANT + evaluation).stages

    assert [str(stage) for stage in stages] == [
        *("train-teacher teacher", "dump-teacher teacher.zarr", "train-student assistant"),
        *("dump-teacher assistant.zarr", "train-student student", "evaluate"),
    ]


@pytest.mark.filterwarnings("ignore::softlab.errors.LittleMass")
@pytest.mark.usefixtures("here")
def test_a_run_gives_the_results_of_its_stages_and_calls_before_each() -> None:
    begun: list[str] = []

    teacher, store, students, *rest = load(COMMON + ASSISTANT).run(
        on_stage=lambda number, stage: begun.append(f"{number} {stage.command}")
    )

    assert begun == ["1 train-teacher", "2 dump-teacher", "3 train-student", "4 dump-teacher", "5 train-student"]
    assert isinstance(store, DumpSummary)
    assert all(isinstance(result, StudentResult) for result in [*teacher, *students])
    assert (store.out, store.manifest.statistics["logits"].rows, len(rest)) == (Path("teacher.zarr"), 200, 2)


CHAINS = [path for path in sorted((ROOT / "pipelines").rglob("*.toml")) if "stage" in read_toml(path)]


@pytest.mark.parametrize("recipe", CHAINS, ids=lambda path: path.stem)
def test_the_chains_of_the_project_run(here: Path, recipe: Path) -> None:
    """On a few samples."""
    (here / "data").symlink_to(ROOT / "data")
    document = shortened(read_toml(recipe))

    ChainRecipe.from_table(document, where=recipe.name).run()

    assert all(Path(stage["out"]).exists() for stage in document["stage"])


def shortened(document: dict[str, Any]) -> dict[str, Any]:
    for table in [document.get("common", {}), *document["stage"]]:
        for source in ("source", "valid"):
            if source in table:
                table[source]["limit"] = 100
        if "run" in table:
            table["run"] |= {"epochs": 1, "batch_size": 50}
    return document


# Chains that are wrong.

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
            "stage 1: command is missing. Give one of train-teacher, dump-teacher, import, train-student, evaluate.",
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
        (TEACHER_STAGE + "rum.epochs = 1\n", "stage 1 (train-teacher): unknown key rum. Did you mean run?"),
        (
            TEACHER_STAGE + "source.path = 'a'\nrun.epochs = 'many'\n",
            "stage 1 (train-teacher): run.epochs is 'many', but must be a whole number.",
        ),
        (
            TEACHER_STAGE,
            "stage 1 (train-teacher): `source.path` is missing. Give it as a flag, with --set, or in a recipe.",
        ),
        (
            COMMON + TEACHER_STAGE + "[[stage]]\ncommand = 'dump-teacher'\nteacher.model = 'softlab:grey_mlp'\n",
            "stage 2 (dump-teacher): `out` is missing. Give it as a flag, with --set, or in a recipe.",
        ),
        (
            COMMON + TEACHER_STAGE + "[[stage]]\n" + STUDENT + "teachers.alpha = 2",
            "stage 2 (train-student): teachers.alpha = 2.0: expected 0 to 1. Change `teachers.alpha`.",
        ),
        (
            COMMON + TEACHER_STAGE + "[[stage]]\n" + STUDENT + "student.a.loss.temperatur = 2",
            "stage 2 (train-student): unknown key student.a.loss.temperatur of kl. Did you mean temperature or",
        ),
        (
            COMMON + TEACHER_STAGE + "[[stage]]\n" + STUDENT + "search.trials = 2",
            "stage 2 (train-student): a search tries one student on a validation source. Give one `student`, and",
        ),
    ],
)
def test_a_wrong_chain_is_refused_before_any_stage_runs(here: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(f'chain.toml: {message}')}"):
        load(text)

    assert [path.name for path in here.iterdir()] == ["chain.toml"]


def test_a_chain_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"^none\.toml: can't read this recipe .* Give the path of a TOML file\.$"):
        ChainRecipe.load("none.toml")
