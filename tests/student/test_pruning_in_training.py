"""Students that are pruned while they train: what is written, how a run goes on, and what is left of the masks."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softlab.errors import ModelError, StoreMismatch
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.models import load_weights
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store
from softlab.student.loop import TrainProgress
from softlab.student.options import Student
from softlab.student.pruning import PruneOptions
from tests.student.fashion import all_but_seconds, metrics, same_weights
from tests.student.pictures import make_learn, make_student, pictures, stop_at, train, train_interrupted

PRUNE = PruneOptions(amount=0.75, end=0.7, every_steps=1)
"""Of nine steps the sixth is the last that prunes."""

PRUNED = ("conv", "hidden")
"""All layers but the last one."""


def share_of_zeros(module: nn.Module, layer: str) -> float:
    weight = module.get_submodule(layer).get_parameter("weight")
    return float((weight == 0).float().mean())


def test_weights_go_on_the_way_and_stay_away(first: Store) -> None:
    student = make_student()
    masks: list[torch.Tensor] = []

    def on_progress(progress: TrainProgress) -> None:
        masks.append(student.get_submodule("hidden").get_buffer("weight_mask").bool().clone())

    train(student, first, on_progress=on_progress, prune=PRUNE)

    shares = [1 - mask.float().mean().item() for mask in masks]
    # Zhu, Gupta (2017), equation 1, from step 0 to step 6.
    expected = [0.75 * (1 - (1 - min(step, 6) / 6) ** 3) for step in range(1, 10)]
    assert shares == pytest.approx(expected, abs=1 / masks[0].numel())
    assert all(bool((after <= before).all()) for before, after in pairwise(masks))


@pytest.mark.parametrize(
    "prune",
    [
        PRUNE,
        PruneOptions(amount=0.75, end=0.7, every_steps=2, scope="global"),
        PruneOptions(amount=0.5, end=0.7, every_steps=1, structure="channels"),
    ],
    ids=["layer", "global", "channels"],
)
def test_what_is_left_is_sparse_and_has_the_models_own_names(first: Store, tmp_path: Path, prune: PruneOptions) -> None:
    student = make_student()

    (result,) = train(student, first, valid=first, out=tmp_path, prune=prune)

    shares = {layer: share_of_zeros(student, layer) for layer in PRUNED}
    assert result.sparsity is not None
    assert result.sparsity.layers == pytest.approx(shares)
    assert result.sparsity.overall == pytest.approx(prune.amount, abs=0.01)
    assert share_of_zeros(student, "classifier") == 0
    assert student.state_dict().keys() == make_student().state_dict().keys()
    assert json.loads((tmp_path / "summary.json").read_text())[0]["sparsity"]["layers"] == result.sparsity.layers


@pytest.mark.parametrize("kind", ["last", "best"])
def test_saved_weights_are_sparse_and_load_into_a_plain_model(first: Store, tmp_path: Path, kind: str) -> None:
    student, plain = make_student(), make_student(seed=9)
    train(student, first, valid=first, out=tmp_path, prune=PRUNE)

    load_weights(plain, tmp_path / "small" / f"{kind}.safetensors")

    epoch = json.loads((tmp_path / "small" / f"{kind}.json").read_text())["epoch"]
    expected = 0.75 * (1 - (1 - min(3 * epoch, 6) / 6) ** 3)
    assert share_of_zeros(plain, "hidden") == pytest.approx(expected, abs=0.01)
    assert same_weights(plain, student) == (epoch == 3)


def test_a_pruned_student_is_measured_as_it_will_be_used(first: Store) -> None:
    student = make_student()

    (result,) = train(student, first, valid=first, prune=PRUNE)

    options, cpu = EvaluateOptions(batch_size=8), DeviceOptions(name="cpu")
    assert evaluate_model(student, pictures(), store=first, options=options, device=cpu) == result.last


@pytest.mark.parametrize("own", [{}, {"optimizer": "sgd", "momentum": 0.9}])
def test_an_interrupted_run_goes_on_to_the_same_bits(first: Store, tmp_path: Path, own: dict[str, Any]) -> None:
    expected = make_student(dropout=0.5)
    (whole,) = train(expected, first, valid=first, out=tmp_path / "whole", prune=PRUNE, **own)

    students, (result,) = train_interrupted(
        lambda: {"small": make_student(dropout=0.5)}, first, valid=first, out=tmp_path / "run", prune=PRUNE, **own
    )

    student = students["small"]
    assert isinstance(student, nn.Module)
    assert same_weights(student, expected)
    assert all_but_seconds(result) == all_but_seconds(whole)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_an_interrupted_student_has_its_own_names_again(first: Store, tmp_path: Path) -> None:
    student = make_student()

    with pytest.raises(KeyboardInterrupt):
        train(student, first, out=tmp_path, on_progress=stop_at(5), prune=PRUNE)

    assert student.state_dict().keys() == make_student().state_dict().keys()


def test_a_finished_run_leaves_the_student_as_it_is(first: Store, tmp_path: Path) -> None:
    (expected,) = train(make_student(), first, out=tmp_path, prune=PRUNE)
    student = make_student()

    assert train(student, first, out=tmp_path, prune=PRUNE) == [expected]
    assert same_weights(student, make_student())


def test_only_the_student_that_asks_for_it_is_pruned(first: Store) -> None:
    pruned, whole, alone = make_student(), make_student(), make_student()
    students = {
        "pruned": Student(module=pruned, learn=make_learn(prune=PRUNE)),
        "whole": Student(module=whole, learn=make_learn()),
    }

    results = train(students, first)

    train(alone, first)
    assert [result.sparsity is None for result in results] == [False, True]
    assert share_of_zeros(whole, "hidden") == 0
    assert same_weights(whole, alone)


def test_a_run_that_goes_on_must_prune_as_it_began(first: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_student(), first, out=tmp_path, on_progress=stop_at(5), checkpoint_steps=4, prune=PRUNE)

    with pytest.raises(StoreMismatch, match=r"amount.*Repeat the first command to go on with it"):
        train(make_student(), first, out=tmp_path, prune=PruneOptions(amount=0.5, end=0.7, every_steps=1))


def test_a_layer_to_leave_whole_that_is_not_there_is_refused_before_training(first: Store) -> None:
    with pytest.raises(ModelError, match="the student has no layer nose"):
        train(make_student(), first, prune=PruneOptions(amount=0.5, exclude=("nose",)))
