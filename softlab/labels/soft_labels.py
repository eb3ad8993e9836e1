"""The value that the whole of softlab is about: what a teacher said about each row, sparse over its classes."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), T temperatures.

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InterpolatedTail, InvalidOption


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoftLabels:
    """What the teacher said about each of B rows: its K largest logits, and exactly how much it said elsewhere."""

    class_ids_BK: Tensor
    """int64, the class of the largest logit first."""

    logits_BK: Tensor
    """float32, raw: no temperature has been applied; shifted so that the row's largest is 0."""

    log_tail_BT: Tensor
    """float32, natural log of the probability outside the kept classes, one column a temperature; -inf if K = C."""

    max_logit_B: Tensor
    """float32, the row's largest raw logit: what was subtracted from `logits_BK`."""

    temperatures: tuple[float, ...]
    """Ascending; the columns of `log_tail_BT`."""

    num_classes: int
    """C, the teacher's classes."""

    def __len__(self) -> int:
        return len(self.class_ids_BK)

    @property
    def k(self) -> int:
        return self.class_ids_BK.shape[1]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "SoftLabels":
        """The same labels on another device."""
        return self._with_tensors(*(tensor.to(device, non_blocking=non_blocking) for tensor in self._tensors()))

    def pin_memory(self) -> "SoftLabels":
        """The same labels in page-locked memory; torch's loaders call this by its name."""
        return self._with_tensors(*(tensor.pin_memory() for tensor in self._tensors()))

    def log_tail_at(self, temperature: float) -> Tensor:
        """float32 [B], log tail mass at any temperature not below the smallest stored one.

        -inf if no class is outside. At a stored temperature this is the stored value. Between stored ones, and above,
        it is interpolated and an `InterpolatedTail` warning says so. Raises InvalidOption below the smallest one.
        """
        if self.k == self.num_classes:
            return torch.full_like(self.max_logit_B, -math.inf)
        if temperature in self.temperatures:
            return self.log_tail_BT[:, self.temperatures.index(temperature)]
        stored = ", ".join(f"{stored:g}" for stored in self.temperatures)
        if not temperature >= self.temperatures[0] or math.isinf(temperature):
            raise InvalidOption(
                f"temperature {temperature:g}: the stored temperatures are {stored}, and a tail can't be rebuilt "
                f"below them. Train at {self.temperatures[0]:g} or more, or dump again with "
                f"--temperature {temperature:g}."
            )
        warnings.warn(
            f"temperature {temperature:g} is not stored (stored: {stored}): its tail mass is interpolated",
            InterpolatedTail,
            stacklevel=2,
        )
        return self._interpolate_log_tail(1 / temperature)

    def _interpolate_log_tail(self, beta: float) -> Tensor:
        """The kept logits give the head's weight at any beta = 1/T exactly; only the tail's has to be interpolated.

        Its logarithm, log sum over the tail of exp(beta * logit), is smooth and convex in beta (a cumulant generating
        function, quadratic for normally distributed logits), and is log(C - K) at beta = 0 without being stored. So a
        polynomial through the nearest knots, at most four, follows it closely.
        """
        knots = {0.0: torch.full_like(self.max_logit_B, math.log(self.num_classes - self.k))}
        for temperature, log_tail_B in zip(self.temperatures, self.log_tail_BT.unbind(1), strict=True):
            log_odds_B = log_tail_B - torch.log(-torch.expm1(log_tail_B))
            knots[1 / temperature] = log_odds_B + self._log_head_weight(1 / temperature)
        nearest = sorted(knots, key=lambda knot: abs(knot - beta))[:4]
        log_odds_B = -self._log_head_weight(beta)
        for knot in nearest:
            others = [other for other in nearest if other != knot]
            log_odds_B = log_odds_B + knots[knot] * math.prod((beta - other) / (knot - other) for other in others)
        return functional.logsigmoid(log_odds_B)

    def _log_head_weight(self, beta: float) -> Tensor:
        return (self.logits_BK * beta).logsumexp(dim=1)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.class_ids_BK, self.logits_BK, self.log_tail_BT, self.max_logit_B

    def _with_tensors(
        self, class_ids_BK: Tensor, logits_BK: Tensor, log_tail_BT: Tensor, max_logit_B: Tensor
    ) -> "SoftLabels":
        return SoftLabels(
            class_ids_BK=class_ids_BK,
            logits_BK=logits_BK,
            log_tail_BT=log_tail_BT,
            max_logit_B=max_logit_B,
            temperatures=self.temperatures,
            num_classes=self.num_classes,
        )
