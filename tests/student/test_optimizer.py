from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, MultiStepLR

from softlab.errors import InvalidOption
from softlab.student.optimizer import OptimizerOptions, Schedule, make_optimizer

RATE = 0.5


def rates(num_steps: int = 20, **options: Any) -> list[float]:
    schedule = Schedule(options=OptimizerOptions(learning_rate=RATE, **options), num_steps=num_steps, steps_per_epoch=5)
    return [schedule(step) for step in range(num_steps)]


def rates_of(make: Any, num_steps: int = 20) -> list[float]:
    """Of one of torch's own schedulers."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler: LambdaLR = make(optimizer)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_steps_down_are_those_of_torch() -> None:
    found = rates(schedule="step", decay_steps=(4, 9), decay_factor=0.3, warmup_epochs=0)

    assert found == pytest.approx(rates_of(lambda each: MultiStepLR(each, [4, 9], gamma=0.3)))


def test_a_line_to_zero_is_that_of_torch() -> None:
    found = rates(schedule="linear", warmup_epochs=0)

    assert found == pytest.approx(rates_of(lambda each: LinearLR(each, 1.0, 0.0, total_iters=20)))


def test_a_warm_up_counts_epochs_or_steps() -> None:
    assert rates(warmup_epochs=2, schedule="constant") == rates(warmup_steps=10, schedule="constant")
    assert rates(warmup_steps=4, schedule="constant")[:5] == pytest.approx(
        [RATE * part / 4 for part in (1, 2, 3, 4, 4)]
    )
    assert rates(warmup_steps=0, schedule="constant") == [RATE] * 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 0.9}, r"optimizer\.momentum = 0\.9: expected none, as only sgd has a momentum"),
        ({"name": "sgd", "fused": True}, r"optimizer\.fused = True: expected false, as it is of adamw alone"),
        ({"schedule": "step"}, r"decay_steps = \(\): expected one or more with `optimizer\.schedule = step`"),
        ({"decay_steps": (5,)}, r"decay_steps = \(5,\): expected .* else none"),
        ({"schedule": "step", "decay_steps": (5, 5)}, "ascending"),
        ({"schedule": "step", "decay_steps": (0,)}, "ascending numbers of 1 or more"),
        ({"ema": 1.0}, r"optimizer\.ema = 1\.0: expected a number between 0 and 1"),
        ({"learning_rate": 0.0}, "a positive number. Change `optimizer.learning_rate`"),
        ({"warmup_steps": -1}, "0 or more"),
        ({"weight_decay": float("nan")}, "0 or more"),
        ({"clip_norm": 0.0}, "a positive number"),
    ],
)
def test_options_that_are_wrong_or_without_effect_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        OptimizerOptions(**options)


def test_sgd_has_nesterov_momentum_unless_it_is_zero() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]

    default, none = (make_optimizer(parameters, OptimizerOptions(name="sgd", momentum=each)) for each in (None, 0.0))

    assert (default.defaults["momentum"], default.defaults["nesterov"]) == (0.9, True)
    assert (none.defaults["momentum"], none.defaults["nesterov"]) == (0.0, False)
