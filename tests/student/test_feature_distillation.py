"""Students that learn a teacher's stored features beside its decisions."""

# Shape letters: B rows in a batch, C classes, H height, W width.

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import DamagedStore, InvalidOption, ModelError, StoreMismatch
from softlab.loading.order import ShuffledBatches
from softlab.models import load_weights
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.learner import Learner
from softlab.student.objective import Objective
from softlab.student.options import Student, TeachersOptions
from tests.student.fashion import all_but_seconds, metrics, same_weights
from tests.student.flat_options import learner_of
from tests.student.pictures import (
    FEATURES,
    NUM_PICTURES,
    feature_batch,
    make_learn,
    make_options,
    make_store,
    make_student,
    pictures,
    train,
    train_interrupted,
)
from tests.teacher.dumping import images_of

MEAN = {"mean": FeatureLoss(layer="conv:mean", weight=3.0)}
BOTH = MEAN | {"map": FeatureLoss(layer="norm", loss="attention", weight=100.0)}
NORMALISED = {"mean": FeatureLoss(layer="conv:mean", normalisation="batch")}


def attention(feature_BCHW: Tensor) -> Tensor:
    """Zagoruyko, Komodakis (2017), section 3.1."""
    return functional.normalize(feature_BCHW.square().sum(dim=1).flatten(start_dim=1), dim=1)


def by_hand(student: nn.Module, store: Store) -> None:
    """Training on both features in plain torch code, the teacher's read from the store."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        projector = nn.Linear(4, 2)
    optimizer = torch.optim.SGD([*student.parameters(), *projector.parameters()], lr=0.05)
    student.train()
    conv, norm = student.get_submodule("conv"), student.get_submodule("norm")
    for rows in ShuffledBatches(num_samples=NUM_PICTURES, batch_size=8, epochs=3, seed=0):
        labels = store.read(rows.source_B)
        teacher_BC = torch.empty(8, 5).scatter_(1, labels.class_ids_BK, labels.logits_BK)
        feature_BCHW = conv(images_of(pictures(), rows.source_B.tolist()))
        normed_BCHW = norm(feature_BCHW)
        student_BC = student.get_submodule("classifier")(
            student.get_submodule("hidden")(normed_BCHW.relu().flatten(start_dim=1))
        )
        mean = functional.mse_loss(projector(feature_BCHW.mean(dim=(2, 3))), store.read_features("mean", rows.source_B))
        maps = functional.mse_loss(attention(normed_BCHW), attention(store.read_features("map", rows.source_B)))
        divergence = functional.kl_div(
            (student_BC / 4).log_softmax(1), (teacher_BC / 4).softmax(1), reduction="batchmean"
        )
        optimizer.zero_grad()
        (16 * divergence + 3 * mean + 100 * maps).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0.0,
    "schedule": "constant",
}


def test_a_run_is_that_of_plain_torch_code(first: Store) -> None:
    student, expected, without = make_student(), make_student(), make_student()
    by_hand(expected, first)

    train(student, first, feature=BOTH, alpha=1.0, **SGD)

    train(without, first, alpha=1.0, **SGD)
    torch.testing.assert_close(student.state_dict(), expected.state_dict())
    assert not torch.allclose(without.get_parameter("conv.weight"), expected.get_parameter("conv.weight"), atol=1e-3)


@pytest.mark.parametrize("coding", ["float32", "int8"])
def test_features_are_learnt_as_they_are_read_in_whatever_coding(tmp_path: Path, coding: str) -> None:
    store = make_store(tmp_path, feature=FEATURES, values_coding=coding)
    student, expected = make_student(), make_student()
    by_hand(expected, store)

    train(student, store, feature=BOTH, alpha=1.0, **SGD)

    torch.testing.assert_close(student.state_dict(), expected.state_dict())


def make_learner(features: dict[str, FeatureLoss]) -> Learner:
    objective = Objective(teachers=TeachersOptions(alpha=0.0), features=features)
    options = make_options(feature=features)
    return learner_of(make_student(), objective, options, num_steps=9, steps_per_epoch=3, example=feature_batch())


def test_projectors_train_and_are_in_the_state_but_not_in_the_weights() -> None:
    learner = make_learner(NORMALISED)
    before = learner.state()

    learner.step(feature_batch(), step=0)

    after = learner.state()
    projector = {name for name in after if name.startswith("projector.")}
    assert {name.rpartition(".")[2] for name in projector} == {
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert all(not after[name].equal(before[name]) for name in projector)
    assert learner.weights().keys() == make_student().state_dict().keys()


@pytest.mark.parametrize("feature", [BOTH, NORMALISED])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    first: Store, tmp_path: Path, feature: dict[str, FeatureLoss]
) -> None:
    expected = make_student(dropout=0.5)
    (whole,) = train(expected, first, out=tmp_path / "whole", feature=feature)

    students, (result,) = train_interrupted(
        lambda: {"small": make_student(dropout=0.5)}, first, out=tmp_path / "run", feature=feature
    )

    student = students["small"]
    assert isinstance(student, nn.Module)
    assert same_weights(student, expected)
    assert all_but_seconds(result) == all_but_seconds(whole)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_saved_weights_are_those_of_a_plain_model(first: Store, tmp_path: Path) -> None:
    student, plain = make_student(), make_student(seed=9)

    train(student, first, out=tmp_path, feature=BOTH)
    load_weights(plain, tmp_path / "small" / "last.safetensors")

    assert same_weights(plain, student)


# What is read.


@pytest.fixture
def damaged(taught: Path, tmp_path: Path) -> Store:
    """A store whose feature `pixels` can't be read any more."""
    shutil.copytree(taught / "first", tmp_path / "damaged")
    for shard in (tmp_path / "damaged" / "outputs" / "pixels").rglob("c/**/*"):
        if shard.is_file():
            shard.write_bytes(b"damaged")
    return open_store(tmp_path / "damaged", cache=CacheOptions(dir=tmp_path / "cache"))


@pytest.mark.parametrize("feature", [{}, MEAN])
def test_only_the_features_that_are_learnt_are_read(
    damaged: Store, first: Store, feature: dict[str, FeatureLoss]
) -> None:
    student, expected = make_student(), make_student()

    train(student, damaged, feature=feature)

    train(expected, first, feature=feature)
    assert same_weights(student, expected)


def test_a_feature_that_one_of_the_students_learns_is_read(damaged: Store) -> None:
    learn = make_learn(feature={"pixels": FeatureLoss(layer="hidden")})

    with pytest.raises(DamagedStore):
        train({"one": make_student(), "two": Student(module=make_student(), learn=learn)}, damaged)


def test_a_feature_comes_from_the_one_store_that_holds_it(first: Store, second: Store) -> None:
    student, swapped = make_student(), make_student()

    train(student, [second, first], feature=MEAN, teacher_weight=(0.0, 1.0))
    train(swapped, [first, second], feature=MEAN, teacher_weight=(1.0, 0.0))

    assert same_weights(student, swapped)


# What is refused.


@pytest.mark.parametrize(
    ("feature", "error", "message"),
    [
        pytest.param(
            {"nose": FeatureLoss(layer="conv")},
            InvalidOption,
            r"feature 'nose': no store holds it.*map, mean, pixels.*Dump it as `dump.feature.nose`",
            id="not stored",
        ),
        pytest.param({"mean": FeatureLoss(layer="nose")}, ModelError, "has no layer 'nose'", id="no such layer"),
        pytest.param(
            {"mean": FeatureLoss(layer="conv:mean", projector="none")},
            StoreMismatch,
            r"student small: layer conv:mean gives \[4\] .* is \[2\].* Set projector = auto",
            id="other widths",
        ),
    ],
)
def test_a_feature_that_can_not_be_learnt_is_refused_before_training(
    first: Store, tmp_path: Path, feature: dict[str, FeatureLoss], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(make_student(), first, out=tmp_path / "run", feature=feature)
    assert not (tmp_path / "run").exists()


def test_a_feature_that_two_stores_hold_is_refused(first: Store, taught: Path) -> None:
    with pytest.raises(InvalidOption, match=r"feature 'mean'.*Dump them with another name in each, or leave it out"):
        train(make_student(), [first, open_store(taught / "first")], feature=MEAN)


def test_without_a_store_there_is_no_feature_to_learn() -> None:
    with pytest.raises(InvalidOption, match="feature mean: there is no store to learn it from"):
        train(make_student(), feature=MEAN)
