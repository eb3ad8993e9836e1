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
    student: dict[str, Any] = json.loads((out / "run.json").read_text())["students"][name]
    return student


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# Options of the loss, for all students.


def test_options_are_flags_or_set_by_their_keys(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    out = tmp_path / "run"
    others = ("loss.balance=0.25", "teachers.alpha_end=1", "targets.label_smoothing=0.1", "optimizer.name=sgd")

    answer = softlab(
        *train(stores / "train.zarr", out, "--loss", "symmetric_kl", "--temperature", "2", "--alpha", "0.5"),
        *("--seed", "7", *(argument for each in others for argument in ("--set", each))),
    )

    found = options_of(out)
    objective = found["objective"]
    assert (answer.code, answer.err) == (0, "")
    assert (found["loss"], objective["loss"]["balance"], objective["loss"]["temperature"]) == ("symmetric_kl", 0.25, 2)
    assert (objective["teachers"]["alpha"], objective["teachers"]["alpha_end"]) == (0.5, 1)
    assert (objective["label_smoothing"], found["seed"], found["optimizer"]["name"]) == (0.1, 7, "sgd")


def test_a_student_is_pruned(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    out = tmp_path / "run"

    answer = softlab(*train(stores / "train.zarr", out, "--set", "prune={amount = 0.8, every_steps = 1}"))

    (result,) = json.loads((out / "summary.json").read_text())
    weight = last(out)["1.weight"]
    assert (answer.code, answer.err) == (0, "")
    assert result["sparsity"]["overall"] == pytest.approx(0.8, abs=0.001)
    assert (weight == 0).float().mean().item() == pytest.approx(0.8, abs=0.001)


def test_a_stored_feature_is_learnt(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    with_feature, without = tmp_path / "with", tmp_path / "without"

    answer = softlab(
        *train(stores / "train.zarr", with_feature, "--feature", "pool=3"), "--set", "feature.pool.weight=3"
    )
    softlab(*train(stores / "train.zarr", without))

    assert (answer.code, answer.err) == (0, "")
    learnt = options_of(with_feature)["objective"]["features"]["pool"]
    assert (learnt["layer"], learnt["weight"]) == ("3", 3)
    assert not is_same(last(with_feature), last(without))


# Samples with some targets.


def test_only_samples_of_some_targets_are_dumped_and_learnt(tmp_path: Path, softlab: Softlab) -> None:
    store, out = tmp_path / "store", tmp_path / "run"
    chosen = ("--set", "source.targets=[3, 5]")

    dumped = softlab("dump-teacher", "--out", store, *TEACHER, *TRAIN, *SMALL, *chosen)
    trained = softlab(*train(store, out, *chosen))
    refused = softlab(*train(store, tmp_path / "other", "--set", "source.targets=[3]"))

    targets = pq.read_table(store / "samples.parquet")["target"].to_pylist()
    assert (dumped.code, trained.code, trained.err) == (0, 0, "")
    assert set(targets) == {3, 5}
    assert dumped.facts()["rows"] == "200"  # the limit counts what is left
    assert_refused(refused, "Point `source.path` (--source) at the data the teacher saw, or dump again.")
