"""A tail between the temperatures that it is stored at: interpolated, and the bounds that it can't be beyond.

With beta = 1/T, the logarithm of a tail's weight, log sum over the tail of exp(beta * logit), is convex in beta (a
cumulant generating function). So between two known points it lies below their chord, and above the lines through the
two points to the right, and through the two to the left. Of 16 of 1,000 logits with a standard deviation of 3, stored
at T = 1, 2 and 4, that leaves 0.08 nats at T = 1.5 and 0.01 at T = 3; what is interpolated is 80 times nearer.
"""

# Shape letters: B rows.

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Knots = Mapping[float, Tensor]
"""By beta, 0 among them: what is known of a curve there, [B]."""

MOST_KNOTS = 4

BENT = 5.0
"""A point at 0 that bends the curve so many times as much as the stored ones do counts classes without any mass, as of
a vocabulary masked at -1e4. Logits with a standard deviation of up to 6 bend it 3 times as much there; where 700 of
1,000 classes are masked, it is 7 times or more."""

STEEPEST_SIGMOID = 0.224
"""No x has a larger |x| * sigmoid(x) * (1 - sigmoid(x))."""

MOST_CURVED_SIGMOID = 0.0963
"""No x has a larger |sigmoid''(x)|."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Interpolated:
    """What is taken for the values of a curve, and how far off it may be."""

    value_B: Tensor
    lowest_B: Tensor
    highest_B: Tensor
    """What the true values can't be beyond, but for the rounding of the points."""

    other_B: Tensor
    """What would be taken without one of the points: it is about as far from the value as the true one is, or
    farther."""

    @property
    def most_B(self) -> Tensor:
        """By how much the value is off at most."""
        return torch.maximum(self.highest_B - self.value_B, self.value_B - self.lowest_B)

    @property
    def about_B(self) -> Tensor:
        """By how much it is off, estimated."""
        return torch.minimum((self.other_B - self.value_B).abs(), self.most_B)

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Interpolated":
        """The same of a curve that grows with this one."""
        return Interpolated(
            value_B=change(self.value_B),
            lowest_B=change(self.lowest_B),
            highest_B=change(self.highest_B),
            other_B=change(self.other_B),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TailError:
    """How far interpolated tails are off, in nats of the logarithm of their mass: means over rows, weighted by that
    mass."""

    mass: float
    """Of the tails, mean over rows."""

    about: float
    """Estimated."""

    most: float
    """A bound; only the rounding of what is stored comes on top."""

    def __str__(self) -> str:
        """`0.41 in the mean, and off by about 0.003 nats, at most 0.08`."""
        return f"{self.mass:.2g} in the mean, and off by about {self.about:.1g} nats, at most {self.most:.1g}"


def tail_error(tails: Interpolated) -> TailError:
    """Of all rows together, from log tails; it waits for their device."""
    mass_B = tails.value_B.exp()
    about_B, most_B = ((mass_B * each).where(mass_B > 0, 0.0) for each in (tails.about_B, tails.most_B))
    mass, about, most = torch.stack([mass_B.sum(), about_B.sum(), most_B.sum()]).tolist()
    weight = mass or 1.0
    return TailError(mass=mass / max(len(mass_B), 1), about=about / weight, most=most / weight)


def interpolate_convex(knots: Knots, at: float, *, steepest_B: Tensor) -> Interpolated:
    """Of a convex curve whose slope is nowhere above `steepest_B`: the polynomial through the nearest points, kept
    within the bounds."""
    value_B, other_B = _polynomial(knots, at), _without_the_farthest(knots, at)
    if other_B is not None and len(knots) >= MOST_KNOTS and 0.0 in _nearest(knots, at):
        is_bent_B, stored_B = _is_bent(knots), _polynomial(_stored(knots), at)
        other_B = torch.where(is_bent_B, value_B, other_B)
        value_B = torch.where(is_bent_B, stored_B, value_B)
    return _between(convex_bounds(knots, at, steepest_B=steepest_B), value_B, other_B)


def interpolate_mean_sigmoid(knots: Knots, at: float, *, largest_B: Tensor) -> Interpolated:
    """Of log mean sigmoid(beta * logit), of logits up to `largest_B`.

    Of negative logits the mean is convex in beta, and falls. Of others its second derivative is -0.0963 * largest^2 at
    least, so that a parabola added to it makes it convex. Besides, a sigmoid changes by at most 0.224 while beta
    changes e-fold, and it is at least half of what it is at a larger beta.
    """
    means = {knot: log_mean_B.exp() for knot, log_mean_B in knots.items()}
    largest_B = largest_B.clamp(min=0)
    bend_B = MOST_CURVED_SIGMOID / 2 * largest_B**2
    steepest_B = largest_B / 4 + 2 * bend_B * max(knots)
    straightened = {knot: mean_B + bend_B * knot**2 for knot, mean_B in means.items()}
    low_B, high_B = (each - bend_B * at**2 for each in convex_bounds(straightened, at, steepest_B=steepest_B))
    for knot in _stored(knots):
        reach = STEEPEST_SIGMOID * abs(math.log(at / knot))
        low_B, high_B = torch.maximum(low_B, means[knot] - reach), torch.minimum(high_B, means[knot] + reach)
    low_B = torch.maximum(low_B, means[min(knot for knot in knots if knot >= at)] / 2)
    bounds = low_B.log(), torch.maximum(high_B, low_B).clamp(max=1).log()
    return _between(bounds, _polynomial(knots, at), _without_the_farthest(knots, at))


def _between(bounds: tuple[Tensor, Tensor], value_B: Tensor, other_B: Tensor | None) -> Interpolated:
    lowest_B, highest_B = bounds
    value_B = torch.minimum(torch.maximum(value_B, lowest_B), highest_B)
    if other_B is None:  # half way to the farther bound
        is_far_below_B = value_B - lowest_B > highest_B - value_B
        other_B = (value_B + torch.where(is_far_below_B, lowest_B, highest_B)) / 2
    return Interpolated(value_B=value_B, lowest_B=lowest_B, highest_B=highest_B, other_B=other_B)


def convex_bounds(knots: Knots, at: float, *, steepest_B: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest that a convex curve through the points can be between two of them, whose slope is
    nowhere above `steepest_B`."""
    betas = sorted(knots)
    right = next(place for place, beta in enumerate(betas) if beta >= at)
    highest_B = _line(knots, betas[right - 1], betas[right], at=at)
    lines = [knots[betas[right]] - (betas[right] - at) * steepest_B]
    lines += [_line(knots, *betas[right : right + 2], at=at)] if right + 1 < len(betas) else []
    lines += [_line(knots, *betas[right - 2 : right], at=at)] if right >= 2 else []
    lowest_B = torch.stack(lines).amax(dim=0)
    return torch.minimum(lowest_B, highest_B), highest_B  # points that are rounded may be those of no convex curve


def _line(knots: Knots, one: float, other: float, *, at: float) -> Tensor:
    share = (at - one) / (other - one)
    return knots[one] + share * (knots[other] - knots[one])


def _polynomial(knots: Knots, at: float) -> Tensor:
    """The value of the polynomial through the nearest points, four at most (Lagrange's form)."""
    nearest = _nearest(knots, at)
    terms = [
        knots[knot] * math.prod((at - other) / (knot - other) for other in nearest if other != knot) for knot in nearest
    ]
    return torch.stack(terms).sum(dim=0)


def _nearest(knots: Knots, at: float) -> list[float]:
    return sorted(knots, key=lambda knot: abs(knot - at))[:MOST_KNOTS]


def _without_the_farthest(knots: Knots, at: float) -> Tensor | None:
    """The value without the point nearest to 0, which is the least certain one; None where only two are left."""
    nearest = _nearest(knots, at)
    return None if len(nearest) < 3 else _polynomial({knot: knots[knot] for knot in nearest if knot > min(nearest)}, at)


def _stored(knots: Knots) -> dict[float, Tensor]:
    return {knot: values_B for knot, values_B in knots.items() if knot > 0}


def _is_bent(knots: Knots) -> Tensor:
    """Whether the point at 0 doesn't belong to the curve of the others, by second divided differences; bool [B]."""
    first, *others = sorted(knots)[:MOST_KNOTS]
    return _bend(knots, [first, *others[:2]]) > BENT * _bend(knots, others)


def _bend(knots: Knots, at: Sequence[float]) -> Tensor:
    low, middle, high = at
    right_B = (knots[high] - knots[middle]) / (high - middle)
    left_B = (knots[middle] - knots[low]) / (middle - low)
    return (right_B - left_B) / (high - low)
