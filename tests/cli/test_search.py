"""`train-student --search`: students are tried in passes and ranked."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softlab.cli.main import main
from tests.cli.program import DATA, Answer, Softlab, assert_refused, train
from tests.forks import run_in_fork
from tests.kills import before_change, kill_this_process

VALID = ("--valid", str(DATA / "test"), "--set", "valid.limit=100")
FOUR = ("--search", "4", "--set", "search={together = 2, loss = ['kl', 'jensen_shannon']}")


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
from softlab.modalities.images.models import grey_mlp

class Huge(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = grey_mlp()

    def forward(self, images):
        return self.layers(images) * 1e25
"""
"""The squares of its logits are beyond float32."""


@pytest.mark.filterwarnings("ignore:.*mse compares logits:softlab.errors.LossyLabels")
def test_why_a_trial_failed_is_told_below_the_table(
    tmp_path: Path, stores: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "huge.py").write_text(HUGE)
    monkeypatch.syspath_prepend(tmp_path)
    losses = ("--set", "search.loss=['kl', 'jensen_shannon', 'mse']", "--set", "search.seed=2")

    answer = softlab(*search(stores, tmp_path / "run", *losses, "--set", "student.mlp.model=huge:Huge"))

    tried, scores = ([row[column] for row in ranking(answer)] for column in (1, 4))
    num_failed = tried.count("mse")
    assert 0 < num_failed < 4
    assert tried[-num_failed:] == ["mse"] * num_failed
    assert scores[-num_failed:] == ["failed"] * num_failed
    assert f"{num_failed} of 4 trials failed. trial-00" in answer.out
    assert ": TrainingFailed: student trial-00" in answer.out


def test_a_search_in_which_all_trials_fail_is_an_error(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    answer = softlab(*search(stores, tmp_path / "run", "--learning-rate", "1e38"))

    assert answer.out.count("\n") == 1  # how much of the teacher the labels hold, which is told before the first step
    assert_refused(
        replace(answer, out=""),
        "all 4 trials failed; the first: ",
        "Lower `optimizer.learning_rate` (--learning-rate)",
    )
