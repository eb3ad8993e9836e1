"""One entry for every loss between a student's logits and soft labels: its options say which one, and compute it."""

# Shape letters: B rows in a batch, C classes.

from dataclasses import fields, replace
from typing import Any, Literal, TypeVar, get_args

from torch import Tensor

from softlab.errors import InvalidOption, suggest
from softlab.labels.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from softlab.labels.losses.checks import check_head
from softlab.labels.losses.decoupled_kl import DecoupledKlLoss
from softlab.labels.losses.dist import DistLoss
from softlab.labels.losses.divergences import JensenShannonLoss, ReverseKlLoss, SymmetricKlLoss
from softlab.labels.losses.forward_kl import KlLoss
from softlab.labels.losses.hard import ArgmaxLoss, HingeLoss
from softlab.labels.losses.logit_mse import LogitMseLoss
from softlab.labels.losses.standardised_kl import StandardisedKlLoss
from softlab.labels.losses.tempered import TemperedLoss, default_temperature
from softlab.labels.losses.values import LossOnValues
from softlab.labels.soft_labels import Head, SoftLabels

LossName = Literal[
    "kl",
    "reverse_kl",
    "symmetric_kl",
    "jensen_shannon",
    "mse",
    "hinge",
    "bce",
    "dkd",
    "dist",
    "standardised_kl",
    "argmax",
]

DecisionLoss = (
    KlLoss
    | ReverseKlLoss
    | SymmetricKlLoss
    | JensenShannonLoss
    | LogitMseLoss
    | HingeLoss
    | BinaryCrossEntropyLoss
    | DecoupledKlLoss
    | DistLoss
    | StandardisedKlLoss
    | ArgmaxLoss
)
"""What a student learns from a teacher's decisions: the options of one loss, which are its own alone."""

Loss = TypeVar("Loss", bound=DecisionLoss | LossOnValues)

LOSS_BY_NAME: dict[str, type[DecisionLoss]] = {each.name: each for each in get_args(DecisionLoss)}


def make_loss(name: str, **options: Any) -> DecisionLoss:
    """The options of the loss of that name. Raises InvalidOption for a loss that there isn't, an option that it doesn't
    have, or a wrong value."""
    if name not in LOSS_BY_NAME:
        raise InvalidOption(f"loss {name}: no such loss. {suggest(name, LOSS_BY_NAME)}")
    kind = LOSS_BY_NAME[name]
    own = [field.name for field in fields(kind)]
    for option in options:
        if option not in own:
            raise InvalidOption(f"loss {name}: has no option {option}. It has {', '.join(own) or 'none'}.")
    return kind(**options)


def decision_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None, options: DecisionLoss
) -> Tensor:
    """The loss that the options name, a float32 scalar, mean over rows; see its own function for units and formula.

    `targets_B` is int64, -1 where unknown; only dkd looks at it. Raises StoreMismatch if it is missing there, or if the
    student or the loss doesn't fit the labels, InvalidOption for a temperature below the smallest stored one.
    """
    return options(student_logits_BC, labels, targets_B=targets_B)


def check_loss_head(loss: DecisionLoss | LossOnValues, head: Head) -> None:
    """Raises StoreMismatch, as the loss itself would, unless it is for labels of this head."""
    if loss.head is not None:
        check_head(head, expected=loss.head, loss=loss.name)


def temperature_of(loss: DecisionLoss | LossOnValues) -> float | None:
    """None of a loss that has none, or whose labels tell it."""
    return getattr(loss, "temperature", None)


def has_temperature(loss: DecisionLoss | LossOnValues) -> bool:
    """Whether it is of labels, at a temperature."""
    return isinstance(loss, TemperedLoss)


def settled_loss(loss: Loss, *, num_classes: int, head: Head, lowest: float, interpolates: bool = True) -> Loss:
    """The same loss with the temperature that these labels give it, where none was given; `lowest` is the smallest that
    all stores hold, and `interpolates` whether their tails can be told at others."""
    if not isinstance(loss, TemperedLoss) or loss.temperature is not None:
        return loss
    change: Any = {"temperature": default_temperature(num_classes, head=head, lowest=lowest, interpolates=interpolates)}
    settled: Loss = replace(loss, **change)  # type: ignore[assignment]  # the class stays what it is
    return settled
