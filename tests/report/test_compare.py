import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.report.compare import ComparedStudent, Spread, compare_students, spread
from softlab.report.runs import NOT_MEASURED, TrainingRun, read_run
from tests.report.folders import FAILURE, change_json, copied, copy_run, set_aside


def read_seeds(runs: Path) -> list[TrainingRun]:
    return [read_run(runs / name) for name in ("seed-0", "seed-1")]


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
    last = [run.results[0].last or NOT_MEASURED for run in read]
    best = [run.results[0].best or NOT_MEASURED for run in read]
    assert student.accuracy == spread(figures.accuracy for figures in last)
    assert student.best_accuracy == spread(figures.accuracy for figures in best)
    assert student.teacher_agreement == spread(figures.teacher_agreement for figures in last)
    assert student.teacher_kl == spread(figures.teacher_kl for figures in last)
    assert student.teacher_jensen_shannon == spread(figures.teacher_jensen_shannon for figures in last)
    assert student.calibration_error == spread(figures.calibration_error for figures in last)
    assert student.train_loss == spread(run.results[0].train_loss for run in read)
    assert student.seconds == spread(run.results[0].seconds for run in read)
    assert student.accuracy is not None
    assert student.accuracy.values[0] != student.accuracy.values[1]


def test_the_gain_is_over_the_baseline_of_the_same_run(runs: Path) -> None:
    read = read_seeds(runs)

    student, baseline = compare_students(read)

    pairs = [[(result.last or NOT_MEASURED).accuracy or 0 for result in run.results] for run in read]
    assert student.gain == spread(ours - theirs for ours, theirs in pairs)
    assert baseline.gain is None


def test_without_a_baseline_there_is_no_gain(runs: Path) -> None:
    (student,) = compare_students([read_run(runs / "stopped")])

    assert student.accuracy is not None
    assert student.gain is None


def test_a_curve_has_the_epochs_of_the_runs_averaged(runs: Path) -> None:
    read = read_seeds(runs)

    student, _ = compare_students(read)

    for number, point in enumerate(student.curve):
        epochs = [run.epochs["small"][number] for run in read]
        assert point.epoch == number + 1
        assert point.accuracy == spread((epoch.valid or NOT_MEASURED).accuracy for epoch in epochs)
        assert point.train_loss == spread(epoch.train_loss for epoch in epochs)
    assert len(student.curve) == 2
    assert student.curve[-1].accuracy == student.accuracy


def test_without_validation_only_the_loss_is_known(runs: Path) -> None:
    (student,) = compare_students([read_run(runs / "bare")])

    assert student.train_loss is not None
    assert (student.accuracy, student.best_accuracy, student.teacher_kl, student.calibration_error) == (None,) * 4
    assert [point.accuracy for point in student.curve] == [None, None]


def test_a_figure_that_was_not_a_number_in_one_run_has_no_mean(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "seed-1", tmp_path / "run")
    change_json(run / "summary.json", lambda results: results[0]["last"].update(teacher_kl=math.nan))

    student, _ = compare_students([read_run(runs / "seed-0"), read_run(run)])

    assert student.teacher_kl is None
    assert student.accuracy is not None


def test_a_run_that_is_given_twice_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(runs / "seed-0")

    with pytest.raises(InvalidOption, match=r"seed-0: this run is given twice\. Give each once\."):
        compare_students([read_run(runs / "seed-0"), read_run(tmp_path / "link")])


# What students are called.


def test_one_name_for_several_students_is_told_apart_by_the_first_run(runs: Path, tmp_path: Path) -> None:
    others = [
        copied(runs / name, tmp_path / f"other-{name}", lambda settings: settings["options"].update(batch_size=7))
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
    assert student.accuracy is not None
    assert (student.num_parameters, student.seconds) == (None, None)


def test_a_student_that_was_set_aside_has_its_error_and_no_accuracy(runs: Path, tmp_path: Path) -> None:
    found = by_label(read_run(set_aside(copy_run(runs / "seed-0", tmp_path / "run"))))

    student = found["small (set aside after 1 of 2 epochs)"]
    assert (student.error, student.is_finished) == (FAILURE, True)
    assert (student.accuracy, student.gain, student.teacher_kl) == (None, None, None)
    assert [point.epoch for point in student.curve] == [1]
    assert found["small-hard"].error is None


def test_a_baseline_that_was_set_aside_gives_no_gain(runs: Path, tmp_path: Path) -> None:
    student, baseline = compare_students(
        [read_run(set_aside(copy_run(runs / "seed-0", tmp_path / "run"), "small-hard"))]
    )

    assert student.accuracy is not None
    assert (student.gain, baseline.error) == (None, FAILURE)
