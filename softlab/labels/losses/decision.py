"""One entry for every loss between a student's logits and soft labels: which one and how, as options."""

# Shape letters: B rows in a batch, C classes.

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.labels.losses import binary_cross_entropy as bce
from softlab.labels.losses import decoupled_kl, dist, divergences, forward_kl, hard, logit_mse, standardised_kl
from softlab.labels.losses.checks import Tail, check_head, check_tail
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


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionLoss:
    """What a student learns from a teacher's decisions. Fields of other losses than the named one are ignored."""

    name: LossName = "kl"
    """bce is for sigmoid heads, mse for any, the others for softmax heads."""

    temperature: float = 4.0
    """Of teacher and student; mse, hinge and argmax have none."""

    tail: Tail = "uniform"
    """What the classes outside the kept ones are taken to be; hinge and argmax look at the largest logit alone."""

    balance: float = 0.5
    """symmetric_kl: weight of KL(teacher || student); 1 - balance is that of KL(student || teacher)."""

    beta: float = 0.5
    """jensen_shannon: the teacher's share of the mixture, between 0 and 1."""

    margin: float = 1.0
    """hinge: by how much the teacher's class should lead, in logits."""

    dkd_alpha: float = 1.0
    """dkd: weight of the target class against all others."""

    dkd_beta: float = 8.0
    """dkd: weight of the other classes among themselves."""

    dist_inter: float = 1.0
    """dist: weight of the correlation over the classes of a row."""

    dist_intra: float = 1.0
    """dist: weight of the correlation over the rows of a batch."""

    def __post_init__(self) -> None:
        if self.name not in get_args(LossName):
            raise InvalidOption(f"loss {self.name}: no such loss. {suggest(self.name, get_args(LossName))}")
        check_tail(self.tail, among=_LOSSES[self.name].tails, loss=self.name)
        _check(0 < self.temperature < math.inf, "temperature", self.temperature, "a positive number")
        _check(0 <= self.balance <= 1, "balance", self.balance, "0 to 1")
        _check(0 < self.beta < 1, "beta", self.beta, "a number between 0 and 1, both excluded")
        _check(0 < self.margin < math.inf, "margin", self.margin, "a positive number")
        for weight in ("dkd_alpha", "dkd_beta", "dist_inter", "dist_intra"):
            _check(0 <= getattr(self, weight) < math.inf, weight, getattr(self, weight), "0 or more")

    @property
    def needs_targets(self) -> bool:
        return self.name == "dkd"

    def check_head(self, head: Head) -> None:
        """Raises StoreMismatch, as the loss itself would, unless it is for labels of this head."""
        expected = _LOSSES[self.name].head
        if expected is not None:
            check_head(head, expected=expected, loss=self.name)


def decision_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None, options: DecisionLoss
) -> Tensor:
    """The loss that the options name, a float32 scalar, mean over rows; see its own function for units and formula.

    `targets_B` is int64, -1 where unknown; only dkd looks at it. Raises StoreMismatch if it is missing there, or if the
    student or the loss doesn't fit the labels, InvalidOption for a temperature below the smallest stored one.
    """
    return _LOSSES[options.name].compute(student_logits_BC, labels, targets_B, options)


class _Loss(NamedTuple):
    compute: Callable[[Tensor, SoftLabels, Tensor | None, DecisionLoss], Tensor]
    tails: tuple[Tail, ...] = get_args(Tail)
    head: Head | None = "softmax"
    """None: any."""


_LOSSES: dict[LossName, _Loss] = {
    "kl": _Loss(
        lambda z, labels, y, o: forward_kl.distillation_loss(z, labels, temperature=o.temperature, tail=o.tail),
        forward_kl.TAILS,
    ),
    "reverse_kl": _Loss(
        lambda z, labels, y, o: divergences.reverse_kl_loss(z, labels, temperature=o.temperature, tail=o.tail),
        divergences.REVERSE_TAILS,
    ),
    "symmetric_kl": _Loss(
        lambda z, labels, y, o: divergences.symmetric_kl_loss(
            z, labels, temperature=o.temperature, tail=o.tail, balance=o.balance
        ),
        divergences.REVERSE_TAILS,
    ),
    "jensen_shannon": _Loss(
        lambda z, labels, y, o: divergences.jensen_shannon_loss(
            z, labels, temperature=o.temperature, tail=o.tail, beta=o.beta
        ),
        divergences.JENSEN_SHANNON_TAILS,
    ),
    "mse": _Loss(lambda z, labels, y, o: logit_mse.logit_mse_loss(z, labels, tail=o.tail), logit_mse.TAILS, head=None),
    "hinge": _Loss(lambda z, labels, y, o: hard.hinge_loss(z, labels, margin=o.margin)),
    "bce": _Loss(
        lambda z, labels, y, o: bce.binary_cross_entropy_loss(z, labels, temperature=o.temperature, tail=o.tail),
        bce.TAILS,
        head="sigmoid",
    ),
    "dkd": _Loss(
        lambda z, labels, y, o: decoupled_kl.decoupled_kl_loss(
            z,
            labels,
            targets_B=_given(y),
            temperature=o.temperature,
            tail=o.tail,
            alpha=o.dkd_alpha,
            beta=o.dkd_beta,
        ),
        decoupled_kl.TAILS,
    ),
    "dist": _Loss(
        lambda z, labels, y, o: dist.dist_loss(
            z, labels, temperature=o.temperature, tail=o.tail, inter=o.dist_inter, intra=o.dist_intra
        ),
        dist.TAILS,
    ),
    "standardised_kl": _Loss(
        lambda z, labels, y, o: standardised_kl.standardised_kl_loss(z, labels, temperature=o.temperature, tail=o.tail),
        standardised_kl.TAILS,
    ),
    "argmax": _Loss(lambda z, labels, y, o: hard.argmax_loss(z, labels)),
}


def _given(targets_B: Tensor | None) -> Tensor:
    if targets_B is None:
        raise StoreMismatch(
            "dkd tells a row's target from its other classes, but there are no hard targets, or they count other "
            "classes than the store. Name the column that holds them (--source-label-column), or choose another loss."
        )
    return targets_B


def _check(is_right: bool, name: str, found: object, expected: str) -> None:
    if not is_right:
        raise InvalidOption(f"{name} = {found}: expected {expected}. Change this option of the loss.")
