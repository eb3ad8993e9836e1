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
        {"seed": 2**64 - 1},
    ],
)
def test_the_ends_of_each_range_are_accepted(values: dict[str, Any]) -> None:
    TrainOptions(**values)
