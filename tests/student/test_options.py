import math
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.labels.losses import HingeLoss, KlLoss, LogitMseLoss, SymmetricKlLoss, settled_loss
from softlab.models.device import DeviceOptions
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import (
    DistilOptions,
    LearnOptions,
    LogOptions,
    RunOptions,
    TargetOptions,
    TeachersOptions,
    TrainOptions,
)

OWNERS: dict[str, type[Any]] = {
    "run": RunOptions,
    "log": LogOptions,
    "device": DeviceOptions,
    "teachers": TeachersOptions,
    "targets": TargetOptions,
    "optimizer": OptimizerOptions,
}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("run.epochs", 0, "1 or more"),
        ("run.batch_size", 0, "1 or more"),
        ("run.accumulate", 0, "a divisor of `run.batch_size`, 128"),
        ("run.accumulate", 3, "a divisor of `run.batch_size`, 128"),
        ("run.max_samples", 0, "1 or more"),
        ("run.patience", 0, "1 or more"),
        ("run.seed", -1, "0 to 2^64 - 1"),
        ("run.seed", 2**64, "0 to 2^64 - 1"),
        ("log.log_steps", 0, "1 or more"),
        ("log.checkpoint_steps", 0, "1 or more"),
        ("device.workers", -1, "0 or more"),
        ("teachers.alpha", -0.1, "0 to 1"),
        ("teachers.alpha", 1.1, "0 to 1"),
        ("teachers.alpha", math.nan, "0 to 1"),
        ("teachers.alpha_end", 1.1, "0 to 1"),
        ("teachers.weight", (-0.5, 1.5), "numbers of 0 or more"),
        ("teachers.weight", (0.5, 0.6), "a sum of 1, not 1.1"),
        ("targets.label_smoothing", -0.1, "0 to below 1"),
        ("targets.label_smoothing", 1.0, "0 to below 1"),
        ("targets.class_weights", (1.0, -1.0), "numbers of 0 or more, not all 0"),
        ("targets.class_weights", (0.0, 0.0), "numbers of 0 or more, not all 0"),
        ("targets.class_weights", (1.0, math.inf), "numbers of 0 or more, not all 0"),
        ("optimizer.learning_rate", 0.0, "a positive number"),
        ("optimizer.learning_rate", math.inf, "a positive number"),
        ("optimizer.learning_rate", math.nan, "a positive number"),
        ("optimizer.weight_decay", -1e-4, "0 or more"),
        ("optimizer.weight_decay", math.inf, "0 or more"),
        ("optimizer.warmup_epochs", -1.0, "0 or more"),
        ("optimizer.warmup_steps", -1, "0 or more"),
        ("optimizer.clip_norm", 0.0, "a positive number"),
        ("optimizer.ema", 0.0, "a number between 0 and 1, such as 0.999"),
        ("optimizer.ema", 1.0, "a number between 0 and 1, such as 0.999"),
        ("optimizer.decay_factor", 0.0, "a number between 0 and 1"),
        ("optimizer.decay_factor", 1.0, "a number between 0 and 1"),
        ("optimizer.decay_steps", (10,), "one or more with `optimizer.schedule = step`, else none"),
        ("optimizer.momentum", 0.5, "none, as only sgd has a momentum"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_key_to_change(key: str, value: Any, expected: str) -> None:
    owner, _, name = key.partition(".")

    with pytest.raises(InvalidOption) as caught:
        OWNERS[owner](**{name: value})

    assert str(caught.value) == f"{key} = {value}: expected {expected}. Change `{key}`."


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_a_momentum_outside_its_range_is_refused(momentum: float) -> None:
    with pytest.raises(InvalidOption) as caught:
        OptimizerOptions(name="sgd", momentum=momentum)

    assert str(caught.value) == (
        f"optimizer.momentum = {momentum}: expected 0 to below 1. Change `optimizer.momentum`."
    )


@pytest.mark.parametrize("decay_steps", [(0,), (5, 5), (6, 5)])
def test_steps_of_a_schedule_that_do_not_ascend_are_refused(decay_steps: tuple[int, ...]) -> None:
    with pytest.raises(InvalidOption) as caught:
        OptimizerOptions(schedule="step", decay_steps=decay_steps)

    assert str(caught.value) == (
        f"optimizer.decay_steps = {decay_steps}: expected ascending numbers of 1 or more. Change "
        "`optimizer.decay_steps`."
    )


def test_a_schedule_of_steps_needs_them() -> None:
    with pytest.raises(InvalidOption, match=r"optimizer\.decay_steps = \(\): expected one or more with"):
        OptimizerOptions(schedule="step")


def test_class_weights_in_a_word_are_balanced_or_nothing() -> None:
    with pytest.raises(InvalidOption) as caught:
        TargetOptions(class_weights="balance")

    assert str(caught.value) == (
        "targets.class_weights = 'balance': expected numbers, or 'balanced'. Change `targets.class_weights`."
    )


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_of_a_students_own_is_one_that_a_run_may_have(seed: int) -> None:
    with pytest.raises(InvalidOption) as caught:
        LearnOptions(seed=seed)

    assert str(caught.value) == f"seed = {seed}: expected 0 to 2^64 - 1. Change `seed`."


def test_an_unknown_metric_of_the_best_epoch_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidOption, match=r"run\.best_by = acuracy: no such metric.*Change `run\.best_by`"):
        RunOptions(best_by="acuracy")


@pytest.mark.parametrize(
    ("owner", "values"),
    [
        *((owner, {}) for owner in OWNERS),
        ("run", {"batch_size": 12, "accumulate": 12}),
        ("run", {"epochs": 1, "max_samples": 1, "patience": 1}),
        ("run", {"seed": 2**64 - 1}),
        ("log", {"log_steps": 1, "checkpoint_steps": 1}),
        ("device", {"workers": 0}),
        ("teachers", {"alpha": 0.0}),
        ("teachers", {"alpha": 1.0, "alpha_end": 0.0}),
        ("teachers", {"weight": (0.0, 1.0)}),
        ("teachers", {"weight": (0.333, 0.333, 0.334)}),
        ("targets", {"label_smoothing": 0.0, "class_weights": "balanced"}),
        ("targets", {"class_weights": (0.0, 1.0)}),
        ("optimizer", {"warmup_epochs": 0.0, "weight_decay": 0.0}),
        ("optimizer", {"warmup_steps": 0}),
        ("optimizer", {"name": "sgd", "momentum": 0.0}),
        ("optimizer", {"schedule": "step", "decay_steps": (1, 2)}),
    ],
)
def test_the_ends_of_each_range_are_accepted(owner: str, values: dict[str, Any]) -> None:
    OWNERS[owner](**values)


# What fits together.


def test_a_warm_up_may_take_the_whole_run() -> None:
    """The default one is an epoch."""
    TrainOptions(run=RunOptions(epochs=1))


def test_a_warm_up_that_is_longer_than_the_run_is_refused() -> None:
    learn = LearnOptions(optimizer=OptimizerOptions(warmup_epochs=30.5))

    with pytest.raises(InvalidOption) as caught:
        TrainOptions(run=RunOptions(epochs=30), learn=learn)

    assert str(caught.value) == (
        "optimizer.warmup_epochs = 30.5: expected 0 to 30, the epochs of the run. Change `optimizer.warmup_epochs`."
    )


def test_gradients_in_float16_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"device\.autocast = float16: .*`device\.autocast = bfloat16`"):
        TrainOptions(device=DeviceOptions(autocast="float16"))


def test_options_that_nothing_is_said_of_are_those_of_hintons_distillation() -> None:
    options = TrainOptions()
    assert isinstance(options.learn.loss, KlLoss)

    loss = settled_loss(options.learn.loss, num_classes=10, head="softmax", lowest=1.0)
    assert loss == KlLoss(temperature=4.0, tail="uniform")
    assert options.learn.teachers == TeachersOptions(alpha=0.9)
    assert (options.distil, options.learn.prune, options.learn.seed) == (DistilOptions(), None, None)


# The loss checks its own options.


@pytest.mark.parametrize(
    ("loss", "values", "message"),
    [
        (
            KlLoss,
            {"temperature": 0.0},
            "loss.temperature = 0.0: expected a positive number. Change `loss.temperature`.",
        ),
        (KlLoss, {"temperature": math.inf}, "loss.temperature = inf: expected a positive number"),
        (KlLoss, {"temperature_end": 0.0}, "loss.temperature_end = 0.0: expected a positive number. Change `loss.temp"),
        (KlLoss, {"temperature_end": math.inf}, "loss.temperature_end = inf: expected a positive number"),
        (HingeLoss, {"margin": 0.0}, "loss.margin = 0.0: expected a positive number. Change `loss.margin`."),
        (SymmetricKlLoss, {"balance": 1.5}, "loss.balance = 1.5: expected 0 to 1. Change `loss.balance`."),
        (
            LogitMseLoss,
            {"tail": "bucket"},
            "loss.tail = bucket: mse has no such tail. Choose as `loss.tail` uniform or",
        ),
    ],
)
def test_the_distillation_loss_checks_its_own_options(loss: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        loss(**values)

    assert str(caught.value).startswith(message)
