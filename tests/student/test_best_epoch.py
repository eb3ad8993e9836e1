"""What makes an epoch of a run the best, and where the run says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.models import load_weights
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store
from softlab.student.loop import TrainProgress
from tests.student.fashion import metrics
from tests.student.pictures import make_options, make_student, pictures, train

OPTIONS: dict[str, Any] = {"epochs": 6, "learning_rate": 0.03}
"""Agreement with the teacher is best after the first epoch, KL after the last, calibration in between."""


def epoch_of(out: Path) -> int:
    epoch: int = json.loads((out / "small" / "best.json").read_text())["epoch"]
    return epoch


@pytest.mark.parametrize(
    ("best_by", "stands_for", "choose"),
    [
        ("auto", "accuracy", max),
        ("accuracy", "accuracy", max),
        ("teacher_agreement", "teacher_agreement", max),
        ("teacher_kl", "teacher_kl", min),
        ("calibration_error", "calibration_error", min),
    ],
)
def test_the_best_epoch_is_that_of_the_best_metric_and_its_weights_are_kept(
    first: Store, tmp_path: Path, best_by: str, stands_for: str, choose: Any
) -> None:
    (result,) = train(make_student(), first, valid=first, out=tmp_path, best_by=best_by, **OPTIONS)

    values = [line["valid"]["values"][stands_for] for line in metrics(tmp_path)]
    assert result.best is not None
    assert result.best.values[stands_for] == choose(values) == values[epoch_of(tmp_path) - 1]
    kept = make_student(seed=9)
    load_weights(kept, tmp_path / "small" / "best.safetensors")
    as_in_the_run, cpu = EvaluateOptions(batch_size=make_options().run.batch_size), DeviceOptions(name="cpu")
    assert evaluate_model(kept, pictures(), store=first, options=as_in_the_run, device=cpu) == result.best


def test_metrics_disagree_about_the_best_epoch(first: Store, tmp_path: Path) -> None:
    epochs = []
    for name in ("accuracy", "calibration_error", "teacher_kl"):
        train(make_student(), first, valid=first, out=tmp_path / name, best_by=name, **OPTIONS)
        epochs.append(epoch_of(tmp_path / name))

    assert len(set(epochs)) > 1


def test_the_run_its_results_and_its_progress_tell_by_which_metric(first: Store, tmp_path: Path) -> None:
    seen: list[TrainProgress] = []

    results = train(make_student(), first, valid=first, out=tmp_path, on_progress=seen.append)

    assert {progress.best_by for progress in seen} == {results[0].best_by} == {"accuracy"}
    assert json.loads((tmp_path / "run.json").read_text())["best_by"] == "accuracy"
    assert json.loads((tmp_path / "summary.json").read_text())[0]["best_by"] == "accuracy"


def test_without_validation_there_is_no_such_metric(first: Store, tmp_path: Path) -> None:
    (result,) = train(make_student(), first, out=tmp_path)

    assert (result.best_by, json.loads((tmp_path / "run.json").read_text())["best_by"]) == (None, None)


@pytest.mark.parametrize(
    ("best_by", "valid", "message"),
    [
        ("teacher_kll", True, r"teacher_kll: no such metric\. Did you mean teacher_kl"),
        (
            "teacher_kl",
            True,
            "teacher_kl can't be measured on memory:pictures: there is no store of a teacher's output",
        ),
        ("teacher_kl", False, r"best_by = teacher_kl: there is nothing to measure it on\. Give `valid\.path`\."),
    ],
)
def test_a_metric_that_the_run_can_not_have_is_refused_before_the_first_step(
    first: Store, tmp_path: Path, best_by: str, valid: bool, message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        train(make_student(), first, valid=valid, out=tmp_path / "run", best_by=best_by)
    assert not (tmp_path / "run").exists()
