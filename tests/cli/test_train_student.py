"""`softlab train-student` from the outside: options of the loss, pruning, features, chosen samples."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.cli.program import (
    SMALL,
    TEACHER,
    TRAIN,
    Softlab,
    assert_refused,
    train,
)


def last(out: Path, name: str = "mlp") -> dict[str, Tensor]:
    return load_file(out / name / "last.safetensors")


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def options_of(out: Path, name: str = "mlp") -> dict[str, Any]:
    """What a run's record says about a student."""
    student = json.loads((out / "run.json").read_text())["students"][name]
    options: dict[str, Any] = student["options"] | student["objective"]
    return options


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# Options of the loss, for all students.


def test_options_of_the_loss_have_flags(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    out = tmp_path / "run"

    answer = softlab(
        *train(stores / "train.zarr", out, "--loss", "symmetric_kl", "--balance", "0.25", "--temperature", "2"),
        *("--alpha", "0.5", "--alpha-end", "1", "--label-smoothing", "0.1", "--seed", "7", "--optimizer", "sgd"),
    )

    found = options_of(out)
    assert (answer.code, answer.err) == (0, "")
    assert (found["loss"]["name"], found["loss"]["balance"], found["loss"]["temperature"]) == ("symmetric_kl", 0.25, 2)
    assert (found["alpha"], found["alpha_end"], found["label_smoothing"]) == (0.5, 1, 0.1)
    assert (found["seed"], found["optimizer"]) == (7, "sgd")


def test_a_student_is_pruned(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    out = tmp_path / "run"

    answer = softlab(*train(stores / "train.zarr", out, "--prune", "0.8", "--prune-every-steps", "1"))

    (result,) = json.loads((out / "summary.json").read_text())
    weight = last(out)["1.weight"]
    assert (answer.code, answer.err) == (0, "")
    assert result["sparsity"]["overall"] == pytest.approx(0.8, abs=0.001)
    assert (weight == 0).float().mean().item() == pytest.approx(0.8, abs=0.001)


def test_a_stored_feature_is_learnt(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    with_feature, without = tmp_path / "with", tmp_path / "without"

    answer = softlab(
        *train(stores / "train.zarr", with_feature, "--feature", "pool=3"), "--set", "train.feature.pool.weight=3"
    )
    softlab(*train(stores / "train.zarr", without))

    assert (answer.code, answer.err) == (0, "")
    assert options_of(with_feature)["features"]["pool"]["layer"] == "3"
    assert options_of(with_feature)["features"]["pool"]["weight"] == 3
    assert not is_same(last(with_feature), last(without))


# Samples with some targets.


def test_only_samples_of_some_targets_are_dumped_and_learnt(tmp_path: Path, softlab: Softlab) -> None:
    store, out = tmp_path / "store", tmp_path / "run"
    chosen = ("--source-targets", "3", "--source-targets", "5")

    dumped = softlab("dump-teacher", "--out", store, *TEACHER, *TRAIN, *SMALL, *chosen)
    trained = softlab(*train(store, out, *chosen))
    refused = softlab(*train(store, tmp_path / "other", "--source-targets", "3"))

    targets = pq.read_table(store / "samples.parquet")["target"].to_pylist()
    assert (dumped.code, trained.code, trained.err) == (0, 0, "")
    assert set(targets) == {3, 5}
    assert dumped.facts()["rows"] == "200"  # the limit counts what is left
    assert_refused(refused, "Point --source at the data the teacher saw, or dump again.")
