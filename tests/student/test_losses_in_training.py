"""Every distillation loss in a run: with the options that the run was given, on what the store holds."""

# Shape letters: N samples, C classes.

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import DecisionLoss, KlLoss, LossName, decision_loss
from softlab.store.reader import Store, open_store
from tests.labels.losses.lessons import loss_with
from tests.student.fashion import same_weights
from tests.student.pictures import NUM_PICTURES, make_student, pictures, train
from tests.teacher.dumping import images_of

SOFTMAX_LOSSES = [name for name in get_args(LossName) if name != "bce"]

OPTIONS: dict[str, dict[str, Any]] = {
    "symmetric_kl": {"balance": 0.2},
    "jensen_shannon": {"beta": 0.2},
    "hinge": {"margin": 2.0},
    "dkd": {"alpha": 2.0, "beta": 3.0},
    "dist": {"inter": 2.0, "intra": 0.5},
}
"""Of one loss each, other than their defaults."""


@pytest.fixture(params=["first", "narrow"])
def store(request: pytest.FixtureRequest, taught: Any) -> Store:
    """Of all classes, and of three of five."""
    return open_store(taught / request.param)


def logits() -> Tensor:
    """[N, C] of a new student in training, over all pictures at once."""
    with torch.no_grad():
        logits_NC: Tensor = make_student().train()(images_of(pictures(), range(NUM_PICTURES)))
    return logits_NC


def in_one_step(store: Store, loss: DecisionLoss | LossName) -> float:
    """The loss of one step over all pictures."""
    (result,) = train(make_student(), store, epochs=1, batch_size=NUM_PICTURES, alpha=1.0, loss=loss)
    assert result.train_loss is not None
    return result.train_loss


@pytest.mark.filterwarnings("ignore::softlab.errors.LossyLabels")
@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
def test_a_step_has_the_loss_of_that_name(store: Store, name: LossName) -> None:
    options = loss_with(name, temperature=2.0)

    loss = in_one_step(store, options)

    labels, targets_N = store.read(range(NUM_PICTURES)), torch.from_numpy(pictures().targets_N)
    expected = decision_loss(logits(), labels, targets_B=targets_N, options=options)
    assert loss == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_loss_has_the_options_of_the_run(store: Store, name: Any) -> None:
    options = loss_with(name, temperature=2.0, **OPTIONS[name])

    loss = in_one_step(store, options)

    labels, targets_N = store.read(range(NUM_PICTURES)), torch.from_numpy(pictures().targets_N)
    expected = decision_loss(logits(), labels, targets_B=targets_N, options=options).item()
    assert loss == pytest.approx(expected, rel=1e-4)
    assert loss != pytest.approx(in_one_step(store, loss_with(name, temperature=2.0)), rel=1e-3)


@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
def test_a_student_learns_by_it(first: Store, name: LossName) -> None:
    student = make_student()

    (result,) = train(student, first, loss=name, alpha=1.0, epochs=20)

    assert result.error is None
    assert not same_weights(student, make_student())
    assert (result.train_loss or 0) < in_one_step(first, name)


def test_beside_it_hard_targets_are_smoothed_as_the_run_says(store: Store) -> None:
    run: dict[str, Any] = {"epochs": 1, "batch_size": NUM_PICTURES, "temperature": 2.0}
    (result,) = train(make_student(), store, alpha=0.3, label_smoothing=0.2, **run)
    (baseline,) = train(make_student(), label_smoothing=0.2, **run)

    targets_N = torch.from_numpy(pictures().targets_N)
    soft = decision_loss(logits(), store.read(range(NUM_PICTURES)), options=KlLoss(temperature=2.0))
    hard = functional.cross_entropy(logits(), targets_N, label_smoothing=0.2)
    assert result.train_loss == pytest.approx((0.3 * soft + 0.7 * hard).item(), rel=1e-4)
    assert baseline.train_loss == pytest.approx(hard.item(), rel=1e-5)


def test_a_loss_for_another_head_is_refused(first: Store) -> None:
    with pytest.raises(StoreMismatch, match="bce is for teachers with a sigmoid head"):
        train(make_student(), first, loss="bce")


def test_a_tail_that_the_loss_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidOption, match="tail = bucket: mse has no such tail"):
        train(make_student(), loss="mse", tail="bucket")


def test_a_loss_of_targets_without_targets_is_refused(first: Store) -> None:
    source = replace(pictures(), targets_N=None)

    with pytest.raises(StoreMismatch, match="dkd tells a row's target from its other classes"):
        train(make_student(), first, source=source, loss="dkd", alpha=1.0)
