"""Samples that are changed a little so that a model errs: projected gradient descent in the infinity norm."""

# Shape letters: B samples in a batch; "..." the axes of a sample.

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softlab.errors import InvalidOption, check_option
from softlab.modalities.inputs import InputBounds, Inputs

LossOf = Callable[[Inputs], Tensor]
"""What an attack raises: a scalar that adds up, or averages, over samples none of which depends on another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackOptions:
    """By how much samples are changed, and how the change is sought."""

    epsilon: float = 8 / 255
    """The most that a number of a sample is changed, in units of the data: pixels are 0 to 1."""

    step: float | None = None
    """By how much in one step; default: a quarter of epsilon."""

    steps: int = 20
    """Steps along the sign of the gradient."""

    def __post_init__(self) -> None:
        check_attack(self.epsilon, self.step, self.steps, section="evaluate.robust")

    @property
    def step_size(self) -> float:
        return self.epsilon / 4 if self.step is None else self.step


def check_attack(epsilon: float, step: float | None, steps: int, *, section: str) -> None:
    """Raises InvalidOption for numbers that change nothing, or without bound."""
    for name, value in [("epsilon", epsilon), ("step", epsilon if step is None else step)]:
        check_option(0 < value < math.inf, f"{section}.{name}", value, "a number above 0")
    check_option(steps >= 1, f"{section}.steps", steps, "1 or more")


def check_bounds(bounds: InputBounds | None, *, modality: str, section: str, whose: str = "") -> InputBounds:
    """Raises InvalidOption where a modality has none; `whose` is what its message begins with."""
    if bounds is None:
        raise InvalidOption(
            f"{whose}[{section}]: samples of the modality {modality} have no bounds between which they could be "
            f"changed a little. Leave [{section}] out, or, for a modality of your own, give it `input_bounds`."
        )
    return bounds


def attacked(
    inputs: Inputs, loss_of: LossOf, *, bounds: InputBounds, options: AttackOptions, start: Tensor, section: str
) -> Inputs:
    """The same inputs, changed within epsilon and `bounds` so that the loss rises: `steps` steps along the sign of its
    gradient, each projected back (Madry et al. 2018). `start` is the change to begin from, in units of the data.

    The model behind the loss is to be in eval mode; no gradient of its parameters is left behind. Raises InvalidOption,
    which names `section`, for a loss without a gradient by the inputs."""
    if len(inputs.positional) != 1 or inputs.named:
        raise InvalidOption(
            f"[{section}]: a model with this input is called with {len(list(inputs.tensors()))} tensors, and an attack "
            f"changes one. Leave [{section}] out."
        )
    clean, bounds = inputs.positional[0].detach().clone(), bounds.to(inputs.positional[0].device)
    lowest = torch.maximum(clean - options.epsilon * bounds.unit, bounds.lowest)
    highest = torch.minimum(clean + options.epsilon * bounds.unit, bounds.highest)
    found = (clean + start * bounds.unit).clamp(lowest, highest)
    for _ in range(options.steps):
        gradient = _gradient(found, inputs, loss_of, section=section)
        found = (found + options.step_size * bounds.unit * gradient.sign()).clamp(lowest, highest)
    return replace(inputs, positional=(found,))


def uniform_start(clean: Tensor, *, epsilon: float, generator: torch.Generator | None = None) -> Tensor:
    """A change anywhere within epsilon, in units of the data; with a generator, one of the CPU."""
    device = clean.device if generator is None else torch.device("cpu")
    return ((2 * torch.rand(clean.shape, generator=generator, device=device) - 1) * epsilon).to(clean.device)


def _gradient(found: Tensor, inputs: Inputs, loss_of: LossOf, *, section: str) -> Tensor:
    with torch.enable_grad():
        found = found.detach().requires_grad_()
        loss = loss_of(replace(inputs, positional=(found,)))
        gradient = torch.autograd.grad(loss, [found], allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        raise InvalidOption(
            f"[{section}]: the model's outputs have no gradient by its input, which an attack follows. Give a model "
            f"that can be differentiated, or leave [{section}] out."
        )
    return gradient
