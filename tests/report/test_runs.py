import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from softlab.errors import InvalidOption
from softlab.evaluation.evaluation import Evaluation
from softlab.report.runs import read_run
from tests.report.folders import FAILURE, change_json, copied, copy_run, keep_lines, lines_of

FILES = ["run.json", "metrics.jsonl", "summary.json"]


def summary_of(run: Path) -> dict[str, dict[str, Any]]:
    return {result["name"]: result for result in json.loads((run / "summary.json").read_text())}


# What is there.


def test_a_finished_run_has_its_results_its_epochs_and_its_settings(runs: Path) -> None:
    path = runs / "seed-1"

    run = read_run(str(path))

    assert (run.path, run.is_finished, run.seed, run.num_epochs, run.epochs_done) == (path, True, 1, 2, 2)
    assert run.settings == json.loads((path / "run.json").read_text())
    assert [result.name for result in run.results] == ["small", "small-hard"] == list(run.epochs)
    assert run.student_seeds == {"small": 1, "small-hard": 1}
    for result in run.results:
        expected = summary_of(path)[result.name]
        assert (result.num_parameters, result.train_loss) == (expected["num_parameters"], expected["train_loss"])
        assert (result.seconds, result.error) == (expected["seconds"], None)
        for found, kind in [(result.last, "last"), (result.best, "best")]:
            assert found is not None
            assert found.values == expected[kind]["values"]
            assert found.values.keys() >= {"accuracy", "teacher_bucket_kl", "calibration_error"}


def test_epochs_are_the_lines_of_each_student(runs: Path) -> None:
    epochs = read_run(runs / "seed-0").epochs["small-hard"]

    lines = [line for line in lines_of(runs / "seed-0") if line["student"] == "small-hard"]
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert [epoch.train_loss for epoch in epochs] == [line["train_loss"] for line in lines]
    assert [epoch.valid and epoch.valid.values for epoch in epochs] == [line["valid"]["values"] for line in lines]


def test_an_unfinished_run_has_the_results_so_far(runs: Path) -> None:
    run = read_run(runs / "stopped")

    (line,) = lines_of(runs / "stopped")
    (result,) = run.results
    assert (run.is_finished, run.epochs_done, run.num_epochs) == (False, 1, 2)
    assert (result.name, result.train_loss) == ("small", line["train_loss"])
    assert result.last == result.best == msgspec.convert(line["valid"], Evaluation)
    assert (result.num_parameters, result.seconds, result.error) == (None, None, None)


@pytest.mark.parametrize(("by", "good"), [("accuracy", 0.9), ("teacher_bucket_kl", 0.001)])
def test_the_best_epoch_so_far_is_that_of_the_best_metric(runs: Path, tmp_path: Path, by: str, good: float) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run", lambda settings: settings.update(best_by=by))
    (run / "summary.json").unlink()
    lines = lines_of(run)
    lines[0]["valid"]["values"][by] = good
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    result = read_run(run).results[0]

    assert result.best is not None
    assert result.last is not None
    assert (result.best.values[by], result.last.values[by]) == (good, lines[2]["valid"]["values"][by])


def test_a_run_that_has_just_begun_has_students_without_figures(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "stopped", tmp_path / "run")
    (run / "metrics.jsonl").unlink()

    found = read_run(run)

    assert found.epochs_done == 0
    assert [(result.name, result.train_loss, result.last) for result in found.results] == [("small", None, None)]


def test_a_line_that_an_unfinished_run_is_still_writing_is_left_out(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "stopped", tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 12, "stu')

    assert read_run(run).epochs_done == 1


def test_a_loss_that_is_no_number_is_read(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "stopped", tmp_path / "run")
    lines = lines_of(run)
    (run / "metrics.jsonl").write_text(json.dumps(lines[0] | {"train_loss": math.nan}) + "\n")

    assert math.isnan(read_run(run).epochs["small"][0].train_loss)


def test_a_student_may_have_a_seed_of_its_own(runs: Path, tmp_path: Path) -> None:
    run = copied(runs / "seed-0", tmp_path / "run", lambda settings: settings["students"]["small"].update(seed=7))

    assert run.student_seeds == {"small": 7, "small-hard": 0}


# Students that were set aside.


def test_a_student_that_was_set_aside_has_its_error_and_the_epochs_it_did(runs: Path) -> None:
    run = read_run(runs / "failed")

    failed, other = run.results
    assert failed.error is not None
    assert failed.error.startswith("TrainingFailed: student small: its loss is nan by step 12.")
    assert (run.is_finished, failed.last, run.epochs_of("small")) == (True, None, 1)
    assert (other.error, run.epochs_of("other"), run.epochs_done) == (None, 2, 2)
    assert other.last is not None


def test_what_an_unfinished_run_has_set_aside_is_in_its_position(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "stopped", tmp_path / "run")
    change_json(run / "resume/position.json", lambda position: position.update(errors={"small": FAILURE}))

    (result,) = read_run(run).results

    assert (result.error, result.last) == (FAILURE, None)
    assert result.best is not None


# What is refused.


@pytest.mark.parametrize("name", ["train", "missing", "train/manifest.json"])
def test_what_is_no_run_is_refused(runs: Path, name: str) -> None:
    """A store, nothing at all, a file."""
    with pytest.raises(InvalidOption) as caught:
        read_run(runs / name)

    assert str(caught.value) == (
        f"{runs / name}: no run.json here, so this is not a training run. "
        f"Give the `out` folder of `softlab train-student`."
    )


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_refused(runs: Path, tmp_path: Path, name: str) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    (run / name).unlink()
    (run / name).mkdir()

    with pytest.raises(InvalidOption, match="Check its permissions, or leave the run out") as caught:
        read_run(run)
    assert str(caught.value).startswith(f"{run / name}: can't be read: Is a directory.")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_ends_early_is_refused(runs: Path, tmp_path: Path, name: str) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    (run / name).write_bytes((run / name).read_bytes()[:-20])

    with pytest.raises(InvalidOption, match="Get this file again from where the run was made, or leave") as caught:
        read_run(run)
    assert str(caught.value).startswith(str(run / name))
    assert "not valid JSON: " in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[" * 100_000], ids=["no text", "deep"])
def test_bytes_that_are_no_json_are_refused(runs: Path, tmp_path: Path, text: bytes) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    (run / "summary.json").write_bytes(text)

    with pytest.raises(InvalidOption, match=r"summary\.json: not valid JSON"):
        read_run(run)


def test_a_bad_line_of_metrics_is_named_by_its_number(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"epoch": 1, "student": "small", "train_loss": 1}\nnonsense\n')

    with pytest.raises(InvalidOption, match=r"metrics\.jsonl, line 2: not valid JSON"):
        read_run(run)


def test_a_finished_run_whose_metrics_lack_an_epoch_is_refused(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    keep_lines(run, lambda line: line["student"] == "small" or line["epoch"] == 1)

    with pytest.raises(InvalidOption, match="ends at epoch 1 of 2 for small-hard, but the run is finished"):
        read_run(run)


def test_a_finished_run_without_metrics_is_refused(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    (run / "metrics.jsonl").unlink()

    with pytest.raises(InvalidOption, match="ends at epoch 0 of 2 for small, but the run is finished"):
        read_run(run)


OTHER_FORMATS: dict[str, tuple[str, Any]] = {
    "no options of the run": ("run.json", lambda settings: settings.pop("run")),
    "students as a list": ("run.json", lambda settings: settings.update(students=["small"])),
    "a result without a name": ("summary.json", lambda results: results[0].pop("name")),
    "no metric that chose the best epoch": ("run.json", lambda settings: settings.pop("best_by")),
    "figures without values": ("summary.json", lambda results: results[0]["last"].pop("values")),
    "figures as a number": ("summary.json", lambda results: results[0].update(last=0.9)),
    "accuracy as text": ("summary.json", lambda results: results[0]["last"]["values"].update(accuracy="90 %")),
}


@pytest.mark.parametrize("change", OTHER_FORMATS)
def test_a_run_of_another_softlab_is_refused(runs: Path, tmp_path: Path, change: str) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    name, do = OTHER_FORMATS[change]
    change_json(run / name, do)

    with pytest.raises(InvalidOption, match="not what a training run of this softlab writes: ") as caught:
        read_run(run)
    assert str(caught.value).startswith(f"{run / name}: ")
    assert str(caught.value).endswith("Make the report with the softlab that made the run, or leave the run out.")


def test_a_run_by_a_metric_that_is_unknown_here_is_refused(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run", lambda settings: settings.update(best_by="teacher_kld"))

    with pytest.raises(InvalidOption, match="best_by is teacher_kld, which is no metric of this softlab") as caught:
        read_run(run)
    assert str(caught.value).endswith("Make the report with the softlab that made the run, or leave the run out.")


def test_metrics_of_another_softlab_are_refused(runs: Path, tmp_path: Path) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"epoch": 1, "student": "small", "loss": 1}\n')

    with pytest.raises(InvalidOption, match=r"line 1: not what a training run of this softlab writes: .*train_loss"):
        read_run(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json"])
def test_files_of_two_runs_are_refused(runs: Path, tmp_path: Path, name: str) -> None:
    run = copy_run(runs / "seed-0", tmp_path / "run")
    (run / name).write_text((run / name).read_text().replace('"small-hard"', '"large"'))

    with pytest.raises(InvalidOption, match=r"is about a student large, whom run\.json does not name"):
        read_run(run)
