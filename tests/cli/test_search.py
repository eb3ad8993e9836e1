"""`train-student --search`: students are tried in passes, ranked, and the best one is trained again from its recipe."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch

from softlab.cli.main import main
from softlab.cli.train_student import TrainRecipe
from softlab.recipe import load_recipe
from tests.cli.program import DATA, Answer, Softlab, assert_refused, train
from tests.forks import run_in_fork
from tests.kills import before_change, kill_this_process

VALID = ("--valid", str(DATA / "test"), "--valid-limit", "100")
FOUR = ("--search", "4", "--search-together", "2", "--search-loss", "kl", "--search-loss", "jensen_shannon")


def search(stores: Path, out: Path, *more: object) -> list[str]:
    """Two passes of two trials."""
    return [*map(str, train(stores / "train.zarr", out, *VALID, *FOUR)), *map(str, more)]


def ranking(answer: Answer) -> list[list[str]]:
    """Place, loss, temperature, alpha and score of each trial."""
    return [line.split() for line in answer.out.splitlines() if line[:1].isdecimal() and "trials" not in line]


def test_trials_are_ranked_by_what_they_reach_on_the_validation_source(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    answer = softlab(*search(stores, tmp_path / "run"))

    rows = ranking(answer)
    scores = [float(row[-1].rstrip("%")) for row in rows]
    assert (answer.code, answer.err) == (0, "")
    assert "The best of 4 trials" in answer.out
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert scores == sorted(scores, reverse=True)
    assert {row[1] for row in rows} <= {"kl", "jensen_shannon"}
    assert {row[2] for row in rows} <= {"1", "2", "4"}
    assert answer.out.endswith(f"The best as a recipe: softlab train-student {tmp_path / 'run/best.toml'}\n")


def test_the_recipe_of_the_best_trial_trains_it_again(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    """Beside its baseline, which the search itself leaves out, and from the options that are the student's own."""
    own = ("--set", "student.mlp.train={label_smoothing=0.1, alpha=0}", "--set", "train.track=[]", "--baseline")
    _, loss, temperature, alpha, score = ranking(softlab(*search(stores, tmp_path / "run", *own)))[0]

    answer = softlab("train-student", tmp_path / "run/best.toml")

    mlp, hard = json.loads((tmp_path / "run/best/summary.json").read_text())
    recipe = load_recipe(TrainRecipe, path=tmp_path / "run/best.toml", flags={}, assignments=[])
    assert (answer.code, answer.err) == (0, "")
    assert f"{mlp['last']['accuracy']:.2%}" == score
    assert hard["name"] == "mlp-hard"
    chosen = recipe.train_options("mlp")
    assert (chosen.loss, f"{chosen.temperature:g}", f"{chosen.alpha:.3f}") == (loss, temperature, alpha)
    assert (chosen.label_smoothing, chosen.track, recipe.search) == (0.1, (), None)


def run_and_be_killed(arguments: list[str], out: Path) -> None:
    """Before the run in this folder has done a step."""
    torch.set_num_threads(1)
    before_change(out, 2, kill_this_process)
    main(arguments)


@pytest.mark.process
def test_a_search_that_was_killed_ends_with_the_table_of_an_undisturbed_one(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    exit_code = run_in_fork(run_and_be_killed, search(stores, killed), killed / "pass-001")
    is_finished = [(killed / name / "summary.json").exists() for name in ("pass-000", "pass-001")]
    resumed, expected = softlab(*search(stores, killed)), softlab(*search(stores, whole))

    assert (exit_code, is_finished) == (-signal.SIGKILL, [True, False])
    assert (resumed.code, resumed.err) == (0, "")
    assert ranking(resumed) == ranking(expected)


HUGE = """
from torch import nn
from softlab.models.reference import grey_mlp

class Huge(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = grey_mlp()

    def forward(self, images):
        return self.layers(images) * 1e25
"""
"""The squares of its logits are beyond float32."""


def test_why_a_trial_failed_is_told_below_the_table(
    tmp_path: Path, stores: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "huge.py").write_text(HUGE)
    monkeypatch.syspath_prepend(tmp_path)
    more = ("--search-loss", "mse", "--search-seed", "2", "--set", "student.mlp.model=huge:Huge")

    answer = softlab(*search(stores, tmp_path / "run", *more))

    losses, scores = ([row[column] for row in ranking(answer)] for column in (1, 4))
    num_failed = losses.count("mse")
    assert 0 < num_failed < 4
    assert losses[-num_failed:] == ["mse"] * num_failed
    assert scores[-num_failed:] == ["failed"] * num_failed
    assert f"{num_failed} of 4 trials failed. trial-00" in answer.out
    assert ": TrainingFailed: student trial-00" in answer.out


def test_a_search_in_which_all_trials_fail_is_an_error(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    answer = softlab(*search(stores, tmp_path / "run", "--learning-rate", "1e38"))

    assert_refused(answer, "all 4 trials failed; the first: ", "Lower --learning-rate")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--search-temperature", "0.5"], "temperature 0.5: the stored temperatures are 1, 2, 4"),
        (["--search-loss", "bce"], "bce is for teachers with a sigmoid head"),
        (["--search-loss", "klx"], "search.loss is ['kl', 'jensen_shannon', 'klx'], but must be a list, each value"),
        (["--search-alpha", "0.5"], "search: alpha = (0.5,): expected a lowest and a highest value, 0 to 1. Give"),
        (["--augment-transforms", "RandomHorizontalFlip()"], "RandomHorizontalFlip"),  # the store is of other views
        (["--search-together", "0"], "search: trials = 4, together = 0: expected 1 or more of both."),
    ],
)
def test_what_can_not_be_tried_is_refused_before_the_first_trial(
    tmp_path: Path, stores: Path, softlab: Softlab, more: list[str], message: str
) -> None:
    answer = softlab(*search(stores, tmp_path / "run", *more))

    assert_refused(answer, message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("package", ["optuna", "tomli_w"])
def test_a_search_without_its_packages_says_what_to_install(
    tmp_path: Path, stores: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    answer = softlab(*search(stores, tmp_path / "run"))

    assert_refused(answer, "a search needs Optuna. Run pip install 'softlab[search]'.")
