"""Options that the losses between two distributions have in common."""

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

from softlab.errors import InvalidOption
from softlab.labels.losses.checks import Tail, check_tail
from softlab.labels.soft_labels import Head


@dataclass(frozen=True, kw_only=True, slots=True)
class TemperedLoss:
    """A loss between softmax(logits / T) of teacher and student, or between sigmoids."""

    name: ClassVar[str]
    head: ClassVar[Head | None] = "softmax"
    """Of the teachers that the loss is for; None: of any."""

    needs_targets: ClassVar[bool] = False
    tails: ClassVar[tuple[Tail, ...]] = get_args(Tail)

    temperature: float = 4.0
    """Of teacher and student."""

    temperature_end: float | None = None
    """Where the temperature moves to, in equal steps over the run; default: it stays."""

    tail: Tail = "uniform"
    """What the classes outside the stored ones are taken to be."""

    def __post_init__(self) -> None:
        check_option(0 < self.temperature < math.inf, "temperature", self.temperature, "a positive number")
        end = self.temperature_end
        check_option(end is None or 0 < end < math.inf, "temperature_end", end, "a positive number")
        check_tail(self.tail, among=self.tails, loss=self.name)


def check_option(is_right: bool, name: str, found: object, expected: str) -> None:
    """Raises InvalidOption, naming the option of the loss, unless its value is right."""
    if not is_right:
        raise InvalidOption(f"loss.{name} = {found}: expected {expected}. Change `loss.{name}`.")
