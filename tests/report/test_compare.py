import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.report.compare import ComparedStudent, Spread, compare_students, spread
from softlab.report.runs import TrainingRun, read_run
from tests.report.folders import FAILURE, change_json, copied, copy_run, set_aside

OF_OTHERS = {"whole rows", "values", "teacher values", "label sets", "entities", "answers", "relevance"}
OF_OTHERS |= {"vocabulary", "sampled rows", "attack"}
MEASURED = {name for name, metric in METRIC_BY_NAME.items() if not metric.needs & OF_OTHERS}
"""Of stores that keep 4 classes."""


def read_seeds(runs: Path) -> list[TrainingRun]:
    return [read_run(runs / name) for name in ("seed-0", "seed-1")]


def values_of(evaluation: Evaluation | None) -> dict[str, float]:
    assert evaluation is not None
    return evaluation.values


def by_label(*runs: TrainingRun) -> dict[str, ComparedStudent]:
    return {student.label: student for student in compare_students(runs)}


# One figure in several runs.

FINITE = st.floats(-1e6, 1e6)


@given(values=st.lists(FINITE, min_size=2, max_size=9))
def test_a_spread_is_the_mean_and_the_sample_standard_deviation(values: list[float]) -> None:
    found = spread(values)

    assert found is not None
    assert found.values == tuple(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-6)


def test_one_value_has_no_deviation() -> None:
    assert spread([0.5]) == Spread(mean=0.5, std=None, values=(0.5,))


@pytest.mark.parametrize("values", [[], [None], [0.5, None], [math.nan, 0.5], [math.inf]])
def test_a_figure_that_is_not_known_in_each_run_is_not_known(values: list[float | None]) -> None:
    assert spread(values) is None


# Students.


def test_students_are_averaged_over_the_seeds(runs: Path) -> None:
    read = read_seeds(runs)

    student, baseline = compare_students(read)

    assert (student.label, student.name, baseline.label) == ("small", "small", "small-hard")
    assert (student.runs, student.seeds) == ((str(runs / "seed-0"), str(runs / "seed-1")), (0, 1))
    assert (student.is_finished, student.error, student.num_parameters) == (True, None, 4018)
    last = [values_of(run.results[0].last) for run in read]
    best = [values_of(run.results[0].best) for run in read]
    assert student.values == {name: spread(values[name] for values in last) for name in MEASURED}
    assert (student.best_by, student.best) == ("accuracy", spread(values["accuracy"] for values in best))
    assert student.train_loss == spread(run.results[0].train_loss for run in read)
    assert student.seconds == spread(run.results[0].seconds for run in read)
    assert len(set(student.values["accuracy"].values)) == 2


def test_the_gain_is_over_the_baseline_of_the_same_run(runs: Path) -> None:
    read = read_seeds(runs)

    student, baseline = compare_students(read)

    pairs = [[values_of(result.last)["accuracy"] for result in run.results] for run in read]
    assert student.gain == spread(ours - theirs for ours, theirs in pairs)
    assert baseline.gain is None


def test_a_gain_by_a_metric_of_which_less_is_better_is_by_how_much_it_is_less(runs: Path, tmp_path: Path) -> None:
    run = copied(runs / "seed-0", tmp_path / "run", lambda settings: settings.update(best_by="teacher_bucket_kl"))

    student, _ = compare_students([run])

    ours, theirs = (values_of(result.last)["teacher_bucket_kl"] for result in run.results)
    assert student.gain == spread([theirs - ours])
    assert student.best == spread([values_of(run.results[0].best)["teacher_bucket_kl"]])


def test_without_a_baseline_there_is_no_gain(runs: Path) -> None:
    (student,) = compare_students([read_run(runs / "stopped")])

    assert "accuracy" in student.values
    assert student.gain is None


def test_a_curve_has_the_epochs_of_the_runs_averaged(runs: Path) -> None:
    read = read_seeds(runs)

    student, _ = compare_students(read)

    for number, point in enumerate(student.curve):
        epochs = [run.epochs["small"][number] for run in read]
        assert point.epoch == number + 1
        values = [values_of(epoch.valid) for epoch in epochs]
        assert point.values == {name: spread(each[name] for each in values) for name in MEASURED}
        assert point.train_loss == spread(epoch.train_loss for epoch in epochs)
    assert len(student.curve) == 2
    assert student.curve[-1].values == student.values


def test_without_validation_only_the_loss_is_known(runs: Path) -> None:
    (student,) = compare_students([read_run(runs / "bare")])

    assert student.train_loss is not None
    assert (student.values, student.best_by, student.best, student.gain) == ({}, None, None, None)
    assert [point.values for point in student.curve] == [{}, {}]


def test_a_figure_that_was_not_a_number_in_one_run_has_no_mean(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "seed-1", tmp_path / "run")
    change_json(run / "summary.json", lambda results: results[0]["last"]["values"].update(teacher_bucket_kl=math.nan))

    student, _ = compare_students([read_run(runs / "seed-0"), read_run(run)])

    assert student.values.keys() == MEASURED - {"teacher_bucket_kl"}


def test_a_run_that_is_given_twice_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(runs / "seed-0")

    with pytest.raises(InvalidOption, match=r"seed-0: this run is given twice\. Give each once\."):
        compare_students([read_run(runs / "seed-0"), read_run(tmp_path / "link")])


# What students are called.


def test_one_name_for_several_students_is_told_apart_by_the_first_run(runs: Path, tmp_path: Path) -> None:
    others = [
        copied(runs / name, tmp_path / f"other-{name}", lambda settings: settings["run"].update(batch_size=7))
        for name in ("seed-0", "seed-1")
    ]

    found = by_label(*read_seeds(runs), *others)

    assert list(found) == [
        "small @ seed-0 +1",
        "small-hard @ seed-0 +1",
        "small @ other-seed-0 +1",
        "small-hard @ other-seed-0 +1",
    ]


def test_runs_of_one_folder_name_are_told_apart_by_their_paths(runs: Path, tmp_path: Path) -> None:
    other = copied(runs / "stopped", tmp_path / "stopped")

    found = by_label(read_run(runs / "stopped"), other)

    assert list(found) == [
        f"small @ {runs / 'stopped'} (1 of 2 epochs)",
        f"small @ {tmp_path / 'stopped'} (1 of 2 epochs)",
    ]


def test_the_folder_that_one_is_in_has_a_name_too(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs / "stopped")

    found = by_label(read_run("."), read_run(runs / "bare"))

    assert list(found) == ["small @ stopped (1 of 2 epochs)", "small @ bare"]


def test_a_student_and_its_baseline_are_a_pair(runs: Path) -> None:
    student, baseline = compare_students(read_seeds(runs))

    assert (student.is_baseline, baseline.is_baseline) == (False, True)
    assert student.without_suffix == baseline.without_suffix == "small"


# Students without a last epoch.


def test_an_unfinished_student_says_how_far_it_is(runs: Path) -> None:
    (student,) = compare_students([read_run(runs / "stopped")])

    assert (student.label, student.is_finished, student.error) == ("small (1 of 2 epochs)", False, None)
    assert "accuracy" in student.values
    assert (student.num_parameters, student.seconds) == (None, None)


def test_a_student_that_was_set_aside_has_its_error_and_no_accuracy(runs: Path, tmp_path: Path) -> None:
    found = by_label(read_run(set_aside(copy_run(runs / "seed-0", tmp_path / "run"))))

    student = found["small (set aside after 1 of 2 epochs)"]
    assert (student.error, student.is_finished) == (FAILURE, True)
    assert (student.values, student.gain) == ({}, None)
    assert [point.epoch for point in student.curve] == [1]
    assert found["small-hard"].error is None


def test_a_baseline_that_was_set_aside_gives_no_gain(runs: Path, tmp_path: Path) -> None:
    student, baseline = compare_students(
        [read_run(set_aside(copy_run(runs / "seed-0", tmp_path / "run"), "small-hard"))]
    )

    assert "accuracy" in student.values
    assert (student.gain, baseline.error) == (None, FAILURE)
