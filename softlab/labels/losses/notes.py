"""What a loss will miss of a teacher, told before it is trusted: from what is known of the store alone."""

import warnings
from functools import lru_cache

from softlab.errors import LittleMass, LossyLabels, SoftlabWarning
from softlab.labels.losses.checks import Tail
from softlab.labels.origin import Origin
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.told import is_told

LITTLE_MASS = 0.5

LOOK_AT_LOGS = ("reverse_kl", "symmetric_kl", "jensen_shannon", "standardised_kl", "mse")
"""Losses that look at a class's logit, or at the logarithm of its probability, even where the teacher gives it next to
none. In the others a class counts as much as its probability, of which a clipped gap changes little."""

NEEDS_ALL_LOGITS = ("mse", "standardised_kl")


def tell(labels: SoftLabels, *, loss: str, temperature: float | None = None, tail: Tail = "uniform") -> None:
    """Warns with LittleMass and LossyLabels, of labels that are from a store. The text is the same in each step, so
    that Python shows it once."""
    if labels.origin is None or is_told():
        return
    for note in loss_notes(labels.origin, loss=loss, temperature=temperature, tail=tail):
        warnings.warn(note, stacklevel=4)


@lru_cache(maxsize=256)
def loss_notes(
    origin: Origin, *, loss: str, temperature: float | None, tail: Tail = "uniform"
) -> tuple[SoftlabWarning, ...]:
    """LittleMass where the kept classes have less than half of the probability at a temperature; LossyLabels where the
    loss looks at logits that aren't stored, or that were clipped."""
    notes: list[SoftlabWarning] = []
    if temperature is not None and origin.mass_at(temperature) < LITTLE_MASS:
        notes.append(LittleMass(_little_mass(origin, temperature, tail)))
    if loss in NEEDS_ALL_LOGITS and origin.k < origin.num_classes:
        notes.append(LossyLabels(_left_out(origin, loss, tail)))
    if loss in LOOK_AT_LOGS and origin.clipped_logits:
        notes.append(LossyLabels(_clipped(origin, loss)))
    return tuple(notes)


def _little_mass(origin: Origin, temperature: float, tail: Tail) -> str:
    mass, others = origin.mass_at(temperature), "the other classes are alike"
    if tail == "bucket":
        others = "the other classes have so much together, and nothing of how they share it"
    elif tail == "renormalise":
        others = "the other classes have nothing"
    of_what = "of the summed probability" if origin.is_multi_label else "of the teacher's probability"
    stored = ", ".join(
        f"{each:.2f} at T={at:g}" for at, each in zip(origin.temperatures, origin.captured_mass, strict=True)
    )
    return (
        f"{origin.name}: its {origin.k} of {origin.num_classes:,} classes have {mass:.2f} {of_what} at "
        f"`loss.temperature = {temperature:g}` ({stored}), so that most of what students learn is that {others}. "
        f"{_lower(origin, temperature)} with a larger `dump.k`"
    )


def _lower(origin: Origin, temperature: float) -> str:
    lowest = origin.temperatures[0]
    if lowest < temperature and origin.captured_mass[0] >= LITTLE_MASS:
        return f"Train at `loss.temperature = {lowest:g}`, or dump"
    return "Dump"


def _left_out(origin: Origin, loss: str, tail: Tail) -> str:
    num_tail, way_out = origin.num_classes - origin.k, "Dump with all classes, or take `loss.name = kl`"
    start = f"{origin.name}: {loss} compares logits, and {num_tail:,} of {origin.num_classes:,} a row aren't stored: "
    if loss == "standardised_kl":
        return f"{start}their spread is estimated from the tails at two temperatures. {way_out}"
    if tail == "renormalise":
        return f"{start}students learn nothing of those classes. {way_out}"
    hottest = origin.temperatures[-1]
    cooler = [each for each in origin.temperatures if each <= hottest / 2]
    if cooler:
        how = f"estimated from the tails at T={cooler[-1]:g} and {hottest:g} (off by 0.14 where their spread is 3)"
    else:
        how = f"which the one tail at T={hottest:g} puts too high (by 1 at T=4, by 3 at T=1 where their spread is 3)"
    return f"{start}each is taken to be the mean of its row's, {how}. {way_out}"


def _clipped(origin: Origin, loss: str) -> str:
    share = origin.clipped_logits / max(origin.num_logits, 1)
    return (
        f"{origin.name}: {origin.clipped_logits:,} of its {origin.num_logits:,} logits ({share:.1%}) are stored higher "
        f"than the teacher's, as {_reach(origin)}. {loss} looks at them even where the teacher gives a class next to "
        f"nothing, and is off by what was clipped. Dump with `dump.coding = float16`, or take "
        f"`loss.name = kl`"
    )


def _reach(origin: Origin) -> str:
    if origin.gap_step is None:
        return "float16 holds nothing below -65,504"
    return f"a gap between two of them can't be over {255 * origin.gap_step:g} nats"
