"""Searches for a loss, a temperature and alpha: which trials there are, and what comes of them."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from softlab.errors import StoreMismatch, TrainingFailed
from softlab.labels.losses import temperature_of
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.reader import Store
from softlab.student.options import Student
from softlab.student.trials import Trial
from softlab.student.validation import Validation
from tests.student.pictures import make_options, make_store, make_student, pictures, train
from tests.student.searching import LOSSES, find

# What is tried.


def test_the_best_trial_comes_first_and_trains_again_to_its_score(first: Store, tmp_path: Path) -> None:
    trials = find(first, tmp_path)

    scores = [trial.score for trial in trials]
    (again,) = train({"again": Student(module=make_student(), learn=trials[0].learn)}, first, valid=True)
    assert sorted(trial.result.name for trial in trials) == [f"trial-{number:03d}" for number in range(4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    assert again.last is not None
    assert again.last.values["accuracy"] == scores[0]


def temperatures(trials: list[Trial]) -> set[float | None]:
    """None of a loss that has none."""
    return {temperature_of(trial.learn.loss) for trial in trials}


def test_trials_differ_in_what_is_searched_alone(first: Store, tmp_path: Path) -> None:
    options = make_options(label_smoothing=0.1, seed=3, baseline=True)

    trials = find(
        first, tmp_path, options=options, temperature=(2.0, 8.0), alpha=(0.3, 0.4), trials=12, together=6, seed=1
    )

    assert {trial.learn.loss.name for trial in trials} == set(LOSSES)
    assert temperatures(trials) == {2.0, 8.0, None}
    assert all(0.3 <= trial.learn.teachers.alpha <= 0.4 for trial in trials)
    assert len({trial.learn.teachers.alpha for trial in trials}) > 1
    assert all(trial.learn.targets.label_smoothing == 0.1 for trial in trials)
    assert seeds_in(tmp_path) == {3}
    assert not list(tmp_path.rglob("*-hard"))


def seeds_in(out: Path) -> set[int]:
    """Of the students of all passes."""
    runs = [json.loads(run.read_text()) for run in out.glob("pass-*/run.json")]
    return {student["seed"] for run in runs for student in run["students"].values()}


def test_the_temperatures_are_the_stored_ones_unless_given(first: Store, tmp_path: Path) -> None:
    trials = find(first, tmp_path, loss=("kl",), trials=12, together=12, alpha=(0.5, 0.5))

    assert temperatures(trials) == {1.0, 2.0, 4.0}


def test_with_several_stores_no_temperature_is_below_the_lowest_of_one(tmp_path: Path) -> None:
    cool = make_store(tmp_path / "cool", temperature=(1.0, 2.0))
    hot = make_store(tmp_path / "hot", seed=1, temperature=(2.0, 4.0))

    trials = find([cool, hot], tmp_path / "out", loss=("kl",), trials=8, together=8)

    assert temperatures(trials) == {2.0, 4.0}


def test_another_seed_tries_others(first: Store, tmp_path: Path) -> None:
    one, other = (find(first, tmp_path / str(seed), seed=seed, trials=2) for seed in (0, 1))

    assert {trial.learn.teachers.alpha for trial in one}.isdisjoint({trial.learn.teachers.alpha for trial in other})


def test_without_targets_trials_are_ranked_by_kl_to_the_teacher(first: Store, tmp_path: Path) -> None:
    unlabelled = Validation(source=replace(pictures(), targets_N=None), store=first)

    trials = find(first, tmp_path, valid=unlabelled, trials=2)

    assert [trial.score for trial in trials] == [-divergence(trial) for trial in trials]
    assert all(trial.score < 0 for trial in trials)


def divergence(trial: Trial) -> float:
    assert trial.result.last is not None
    return trial.result.last.values["teacher_kl"]


def test_trials_are_shown_the_views_that_were_asked_for(first: Store, tmp_path: Path) -> None:
    """The store is of the pictures as they are."""
    flipped = ViewRecipe(transforms=("RandomHorizontalFlip(p=1)",))

    with pytest.raises(StoreMismatch, match="RandomHorizontalFlip"):
        find(first, tmp_path / "refused", augment=flipped)
    find(first, tmp_path / "out", augment=flipped, options=make_options(views_mismatch="allow"), trials=2)

    (run,) = tmp_path.glob("out/pass-*/run.json")
    assert "RandomHorizontalFlip" in json.dumps(json.loads(run.read_text())["views"])


def test_trials_are_ranked_by_the_metric_that_was_asked_for(first: Store, tmp_path: Path) -> None:
    """Of a divergence less is better."""
    valid = Validation(source=pictures(), store=first)

    trials = find(first, tmp_path, valid=valid, options=make_options(best_by="teacher_kl"))

    divergences = [trial.result.last.values["teacher_kl"] for trial in trials if trial.result.last]
    assert divergences == sorted(divergences) == [-trial.score for trial in trials]
    assert divergences[0] < divergences[-1]


# Trials that fail.


class Diverging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = make_student()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.layers(images_BCHW)
        return logits_BC * math.nan


def failing(numbers: set[int]) -> Callable[[], nn.Module]:
    """Makes students, of which those of these numbers diverge."""
    made = itertools.count()
    return lambda: Diverging() if next(made) in numbers else make_student()


@pytest.mark.parametrize("numbers", [{1}, {0, 1}, {1, 2, 3}])  # one of a pass, a whole one, both
def test_trials_that_fail_are_last_and_the_search_goes_on(first: Store, tmp_path: Path, numbers: set[int]) -> None:
    trials = find(first, tmp_path, make=failing(numbers))

    failed = [trial for trial in trials if trial.result.error]
    assert {int(trial.result.name[-3:]) for trial in failed} == numbers
    assert trials[-len(numbers) :] == failed
    assert all(trial.score == -math.inf for trial in failed)
    assert all("its loss is nan by step" in str(trial.result.error) for trial in failed)


def test_a_search_in_which_all_trials_fail_is_an_error(first: Store, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"all 2 trials failed; the first: .*Lower `optimizer.learning_rate`"):
        find(first, tmp_path, make=failing({0, 1}), trials=2)
