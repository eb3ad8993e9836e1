from dataclasses import asdict
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.student.options import TrainOptions


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "1 or more"),
        ("batch_size", 0, "1 or more"),
        ("alpha", -0.1, "0 to 1"),
        ("alpha", 1.1, "0 to 1"),
        ("alpha", float("nan"), "0 to 1"),
        ("temperature", 0.0, "a positive number"),
        ("temperature", float("inf"), "a positive number"),
        ("learning_rate", 0.0, "a positive number"),
        ("learning_rate", float("inf"), "a positive number"),
        ("learning_rate", float("nan"), "a positive number"),
        ("momentum", -0.1, "0 to below 1"),
        ("momentum", 1.0, "0 to below 1"),
        ("weight_decay", -1e-4, "0 or more"),
        ("warmup_epochs", -1.0, "0 to 30"),
        ("warmup_epochs", 30.5, "0 to 30"),
        ("clip_norm", 0.0, "a positive number"),
        ("max_samples", 0, "1 or more"),
        ("checkpoint_steps", 0, "1 or more"),
        ("alpha_end", 1.1, "0 to 1"),
        ("temperature_end", 0.0, "a positive number"),
        ("temperature_end", float("inf"), "a positive number"),
        ("label_smoothing", -0.1, "0 to below 1"),
        ("label_smoothing", 1.0, "0 to below 1"),
        ("teacher_weight", (-0.5, 1.5), "numbers of 0 or more"),
        ("teacher_weight", (0.5, 0.6), "a sum of 1, not 1.1"),
        ("seed", -1, "0 to 2^64 - 1"),
        ("seed", 2**64, "0 to 2^64 - 1"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_flag_to_change(name: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        TrainOptions(**{name: value})

    assert str(caught.value) == f"{name} = {value}: expected {expected}. Change --{name.replace('_', '-')}."


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"epochs": 1},  # the default warm-up is then the whole run
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"warmup_epochs": 0.0},
        {"momentum": 0.0, "weight_decay": 0.0},
        {"alpha_end": 0.0, "temperature_end": 1.0, "label_smoothing": 0.0},
        {"teacher_weight": (0.0, 1.0)},
        {"teacher_weight": (0.333, 0.333, 0.334)},
        {"seed": 2**64 - 1},
    ],
)
def test_the_ends_of_each_range_are_accepted(values: dict[str, Any]) -> None:
    TrainOptions(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "hinge", "margin": 0.0}, "margin = 0.0: expected a positive number"),
        ({"loss": "symmetric_kl", "balance": 1.5}, "balance = 1.5: expected 0 to 1"),
        ({"loss": "mse", "tail": "bucket"}, "tail = bucket: mse has no such tail"),
        ({"loss": "mes"}, "loss mes: no such loss. Did you mean mse?"),
    ],
)
def test_the_distillation_loss_checks_its_own_options(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        TrainOptions(**values)

    assert message in str(caught.value)


def test_the_distillation_loss_has_the_options_of_the_run() -> None:
    options = TrainOptions(
        loss="dkd",
        temperature=3.0,
        tail="renormalise",
        balance=0.1,
        beta=0.2,
        margin=0.3,
        dkd_alpha=0.4,
        dkd_beta=0.5,
        dist_inter=0.6,
        dist_intra=0.7,
    )

    assert all(getattr(options, name) == value for name, value in asdict(options.decision).items() if name != "name")
    assert options.decision.name == "dkd"
    assert asdict(options.decision).keys() - {"name"} <= asdict(options).keys()
