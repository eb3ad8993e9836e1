"""How a student's weights are updated: the optimizer, the learning rate of each step, and averaged weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from softlab.errors import check_option
from softlab.imports import uncollected

MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerOptions:
    """How a student's weights are updated."""

    name: Literal["sgd", "adamw"] = "adamw"
    """sgd has Nesterov momentum."""

    learning_rate: float = 1e-3
    """The peak, after the warm-up."""

    fused: bool = False
    """Of adamw: one kernel for all weights, which is faster on a GPU; weights differ in their last digits."""

    momentum: float | None = None
    """Of sgd; default: 0.9."""

    weight_decay: float = 1e-2
    """Decoupled for adamw, L2 for sgd."""

    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    """After the warm-up: to zero at the last step as a cosine or a line, down by decay_factor at each of decay_steps,
    or no change."""

    decay_steps: tuple[int, ...] = ()
    """Of the step schedule: the steps, counted over the whole run, from which the learning rate is lower."""

    decay_factor: float = 0.1
    """Of the step schedule: what the learning rate is multiplied with."""

    warmup_epochs: float = 1.0
    """The learning rate rises linearly from zero over so many epochs."""

    warmup_steps: int | None = None
    """The same in steps, in place of warmup_epochs."""

    clip_norm: float | None = None
    """Largest norm of the gradient; default: not clipped."""

    ema: float | None = None
    """Decay a step of an exponential moving average of the weights, e.g. 0.999: it is what is measured and saved;
    default: the weights themselves are."""

    def __post_init__(self) -> None:
        _check(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "a positive number")
        _check(self.momentum is None or 0 <= self.momentum < 1, "momentum", self.momentum, "0 to below 1")
        _check(
            self.momentum is None or self.name == "sgd", "momentum", self.momentum, "none, as only sgd has a momentum"
        )
        _check(not self.fused or self.name == "adamw", "fused", self.fused, "false, as it is of adamw alone")
        _check(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "0 or more")
        _check(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, "0 or more")
        _check(self.warmup_steps is None or self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
        _check(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "a positive number")
        _check(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "a number between 0 and 1, such as 0.999")
        _check(0 < self.decay_factor < 1, "decay_factor", self.decay_factor, "a number between 0 and 1")
        steps, is_by_steps = self.decay_steps, self.schedule == "step"
        ascending = all(one < other for one, other in zip((0, *steps), steps, strict=False))
        _check(ascending, "decay_steps", steps, "ascending numbers of 1 or more")
        _check(
            bool(steps) == is_by_steps, "decay_steps", steps, "one or more with `optimizer.schedule = step`, else none"
        )


def make_optimizer(parameters: Sequence[nn.Parameter], options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer that the options name. torch's first one imports its compiler."""
    with uncollected():
        return _make_optimizer(parameters, options)


def _make_optimizer(parameters: Sequence[nn.Parameter], options: OptimizerOptions) -> torch.optim.Optimizer:
    if options.name == "adamw":
        return torch.optim.AdamW(
            parameters, lr=options.learning_rate, weight_decay=options.weight_decay, fused=options.fused or None
        )
    momentum = MOMENTUM if options.momentum is None else options.momentum
    return torch.optim.SGD(
        parameters,
        lr=options.learning_rate,
        momentum=momentum,
        weight_decay=options.weight_decay,
        nesterov=momentum > 0,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The learning rate as a function of the step."""

    options: OptimizerOptions
    num_steps: int
    """Of the whole run."""

    steps_per_epoch: int

    def __call__(self, step: int) -> float:
        """Linear warm-up, then cosine to zero (Loshchilov, Hutter 2017, without restarts), a line to zero, steps down,
        or constant. `step` counts from 0."""
        options, warmup = self.options, self._warmup_steps
        if step < warmup:
            return options.learning_rate * (step + 1) / math.ceil(warmup)
        if options.schedule == "constant":
            return options.learning_rate
        if options.schedule == "step":
            return options.learning_rate * options.decay_factor ** sum(step >= each for each in options.decay_steps)
        progress = (step - warmup) / max(self.num_steps - warmup, 1)
        if options.schedule == "linear":
            return options.learning_rate * (1 - progress)
        return options.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    @property
    def _warmup_steps(self) -> float:
        steps = self.options.warmup_steps
        return self.options.warmup_epochs * self.steps_per_epoch if steps is None else steps


def _check(is_right: bool, name: str, found: object, expected: str) -> None:
    check_option(is_right, f"optimizer.{name}", found, expected)
