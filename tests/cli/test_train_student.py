"""Students that differ from each other: by options of their own, several teachers, inherited layers, chosen samples."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from softlab.cli.train_student import TrainRecipe
from softlab.recipe import load_recipe
from tests.cli.program import (
    CNN,
    INPUT,
    ROOT,
    SHORT,
    SMALL,
    TEACHER,
    TRAIN,
    Softlab,
    assert_refused,
    open_uncached,
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
        *("--alpha", "0.5", "--alpha-end", "1", "--label-smoothing", "0.1", "--seed", "7", "--optimiser", "sgd"),
    )

    found = options_of(out)
    assert (answer.code, answer.err) == (0, "")
    assert (found["loss"]["name"], found["loss"]["balance"], found["loss"]["temperature"]) == ("symmetric_kl", 0.25, 2)
    assert (found["alpha"], found["alpha_end"], found["label_smoothing"]) == (0.5, 1, 0.1)
    assert (found["seed"], found["optimiser"]) == (7, "sgd")


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


# Options of one student.


def test_a_student_has_options_of_its_own(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    """Each ends with the weights of a run in which all students have these options."""
    recipe = write(
        tmp_path / "recipe.toml",
        "[student.hot]\nmodel = 'softlab:grey_mlp'\n[student.hot.train]\ntemperature = 4\nalpha = 0.5\nseed = 3\n",
    )
    together, alone, plain = tmp_path / "together", tmp_path / "alone", tmp_path / "plain"

    softlab("train-student", recipe, *train(stores / "train.zarr", together)[1:], "--temperature", "2")
    softlab(*train(stores / "train.zarr", alone, "--temperature", "4", "--alpha", "0.5", "--seed", "3"))
    softlab(*train(stores / "train.zarr", plain, "--temperature", "2"))

    # The seed of the run also orders its samples, so `hot` alone has another order: only the record is compared.
    assert options_of(together, "hot") == options_of(alone)
    assert initial_weights(together, "hot") == initial_weights(alone)
    assert is_same(last(together), last(plain))
    assert not is_same(last(together, "hot"), last(together))


def initial_weights(out: Path, name: str = "mlp") -> str:
    fingerprint: str = json.loads((out / "run.json").read_text())["students"][name]["initial_weights"]
    return fingerprint


def test_one_student_may_learn_another_feature_or_be_pruned_otherwise(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    out = tmp_path / "run"

    answer = softlab(
        *train(stores / "train.zarr", out, "--prune", "0.5", "--feature", "pool=3"),
        *CNN,
        *("--set", "student.cnn.train.prune.amount=0.9", "--set", "student.cnn.train.feature={pool={layer='pool'}}"),
    )

    mlp, cnn = options_of(out), options_of(out, "cnn")
    assert (answer.code, answer.err) == (0, "")
    assert (mlp["prune"]["amount"], cnn["prune"]["amount"]) == (0.5, 0.9)
    assert (mlp["features"]["pool"]["layer"], cnn["features"]["pool"]["layer"]) == ("3", "pool")


# Layers of the teacher.

WEIGHTS = ("--learning-rate", "1e-12", "--weight-decay", "0")
"""So small a step that weights stay what they were."""

MAP = "{'conv{i}' = 'conv{i}', 'norm{i}' = 'norm{i}'}"


@pytest.fixture
def trained(tmp_path: Path, softlab: Softlab) -> tuple[str, ...]:
    """A teacher with weights, as arguments."""
    teacher, out = ("--teacher", "softlab:grey_cnn"), tmp_path / "teacher"
    softlab("train-teacher", "--out", out, *teacher, *INPUT, *TRAIN, *SHORT, "--seed", "1")
    return (*teacher, "--teacher-weights", str(out / "teacher/last.safetensors"))


def test_a_student_starts_from_layers_of_the_teacher(
    tmp_path: Path, stores: Path, softlab: Softlab, trained: tuple[str, ...]
) -> None:
    out = tmp_path / "run"

    answer = softlab(
        *train(stores / "train.zarr", out, *CNN, *trained, *WEIGHTS, "--student", "fresh=softlab:grey_cnn"),
        *("--set", f"student.cnn.inherit={{map = {MAP}, every = 1, strict = false}}"),
    )

    theirs, heir, fresh = load_file(trained[-1]), last(out, "cnn"), last(out, "fresh")
    assert (answer.code, answer.err) == (0, "")
    torch.testing.assert_close(heir["conv2.weight"], theirs["conv2.weight"], rtol=0, atol=1e-6)
    assert not torch.allclose(fresh["conv2.weight"], theirs["conv2.weight"], atol=1e-2)
    torch.testing.assert_close(heir["classifier.weight"], fresh["classifier.weight"], rtol=0, atol=1e-6)


# Several teachers.


def test_students_learn_from_several_stores(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    """Of a teacher that counts nothing they learn nothing; of half of it, something."""
    other = tmp_path / "other.zarr"
    softlab("dump-teacher", "--out", other, "--teacher", "softlab:grey_cnn", *INPUT, *TRAIN, "--k", "4")
    outs = [tmp_path / name for name in ("alone", "nothing", "half")]

    softlab(*train(stores / "train.zarr", outs[0]))
    both = train(
        stores / "train.zarr", outs[1], "--store", str(other), "--teacher-weight", "1", "--teacher-weight", "0"
    )
    answer = softlab(*both)
    softlab(*train(stores / "train.zarr", outs[2], "--store", str(other)))

    alone, nothing, half = (last(out)["5.weight"] for out in outs)
    digests = json.loads((outs[1] / "run.json").read_text())["stores"]
    assert (answer.code, answer.err) == (0, "")
    assert digests == [open_uncached(store).digest for store in (stores / "train.zarr", other)]
    torch.testing.assert_close(nothing, alone, rtol=0, atol=1e-3)
    assert not torch.allclose(half, alone, atol=1e-3)


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


# Recipes of the project.


def test_the_recipe_of_the_demo_can_be_read() -> None:
    recipe = load_recipe(TrainRecipe, path=ROOT / "pipelines/fashion_mnist/train.toml", flags={}, assignments=[])

    assert recipe.store == ("runs/demo/train.zarr",)
    assert sorted(recipe.student) == ["cnn", "mlp"]
