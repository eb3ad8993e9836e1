"""What is told of stored labels before students learn from them: how much of the teacher they hold at the temperature
of training, what a loss will miss, and by how much interpolated tails are off."""

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from softlab.errors import InterpolatedTail, InvalidOption, LittleMass
from softlab.labels.losses import (
    DecisionLoss,
    LossOnValues,
    Tail,
    has_temperature,
    loss_notes,
    temperature_of,
)
from softlab.labels.tail_curve import TailError, tail_error
from softlab.loading.label_check import looked_at
from softlab.store.reader import Store
from softlab.student.options import LearnOptions

ON_THE_WAY = 9
"""Temperatures that are looked at from a first to a last one."""

NEXT_TO_NOTHING = 1e-3
"""Of probability: where a tail is off by less, that can't be seen."""


def warn_of_losses(learn: Iterable[LearnOptions], stores: Sequence[Store]) -> tuple[str, ...]:
    """With LittleMass and LossyLabels, of what the students' losses will miss. Returned is what is left to tell: the
    captured mass where it is no reason for a warning, a line a store."""
    told: dict[str, None] = {}
    for store in (each for each in stores if each.has_labels):
        if store.labels.is_sampled:
            told[f"{store.name}: its rows are an unbiased sample of its {store.num_classes:,} classes"] = None
            continue
        for loss in _losses(learn):
            temperature, tail = _hottest(loss), _tail_of(loss)
            notes = loss_notes(store.origin, loss=loss.name, temperature=temperature, tail=tail)
            for note in notes:
                warnings.warn(note, stacklevel=3)
            if not any(isinstance(note, LittleMass) for note in notes):
                told[_mass_in_words(store, temperature)] = None
    return tuple(told)


def check_interpolation(
    learn: Iterable[LearnOptions], stores: Sequence[Store], *, most_nats: float, is_told: bool = True
) -> None:
    """Raises InvalidOption where a student would train at a temperature that isn't stored, and what is known of the
    tails leaves more than so many nats open. Else warns with InterpolatedTail by how much they may be off."""
    for loss in _losses(learn):
        for store in stores:
            if store.has_labels and _needs_tail(loss, store, num_stores=len(stores)):
                _check_tails(loss, store, most_nats=most_nats, is_told=is_told)


def _check_tails(loss: DecisionLoss, store: Store, *, most_nats: float, is_told: bool) -> None:
    on_the_way, stored = _temperatures(loss), ", ".join(f"{each:g}" for each in store.temperatures)
    wanted = [each for each in on_the_way if each not in store.temperatures]
    if not wanted or min(wanted) < store.temperatures[0]:  # that is refused where learners are made
        return
    labels = store.read(looked_at(store, np.arange(store.num_samples))[1])
    errors = {each: tail_error(labels.interpolate_log_tail(each)) for each in wanted}
    worst = max(errors, key=lambda each: (_can_be_seen(errors[each]), errors[each].most))
    if errors[worst].most > most_nats and _can_be_seen(errors[worst]):
        raise InvalidOption(_refusal(store, worst, errors[worst], most_nats=most_nats, stored=stored))
    if not is_told:
        return
    if len(on_the_way) > 1:
        at = f"temperatures from {on_the_way[0]:g} to {on_the_way[-1]:g} are not all stored (stored: {stored})"
        text = f"{store.name}: {at}: tails in between are interpolated: at T={worst:.3g} {errors[worst]}"
    else:
        at = f"temperature {worst:g} is not stored (stored: {stored})"
        text = f"{store.name}: {at}: its tail mass is interpolated: {errors[worst]}"
    warnings.warn(text, InterpolatedTail, stacklevel=4)


def _can_be_seen(error: TailError) -> bool:
    return error.mass * error.most > NEXT_TO_NOTHING


def _refusal(store: Store, temperature: float, error: TailError, *, most_nats: float, stored: str) -> str:
    nearest = min(store.temperatures, key=lambda each: abs(math.log(each / temperature)))
    return (
        f"{store.name}: temperature {temperature:.3g} is not stored (stored: {stored}), and its tail mass would be "
        f"interpolated: {error.mass:.2g} in the mean, and off by about {error.about:.2g} nats, at most "
        f"{error.most:.2g}, more than `check.tail_nats = {most_nats:g}` allows. Train at a stored one, as with "
        f"`loss.temperature = {nearest:g}`, dump again with {temperature:.3g} among `dump.temperature`, or allow it "
        f"with `check.tail_nats = {math.ceil(error.most * 10) / 10:g}`."
    )


def _losses(learn: Iterable[LearnOptions]) -> list[DecisionLoss]:
    """Of students that learn stored labels at any time."""
    learnt = (each for each in learn if max(each.teachers.alpha, each.teachers.alpha_end or 0.0) > 0)
    return list(dict.fromkeys(each.loss for each in learnt if not isinstance(each.loss, LossOnValues)))


def _needs_tail(loss: DecisionLoss, store: Store, *, num_stores: int) -> bool:
    """At the temperature of the loss; that of standardised logits is another in each row. Several teachers are combined
    with their tails, whatever the loss makes of them."""
    drops_it = num_stores == 1 and _tail_of(loss) == "renormalise"
    has_tail = store.k < store.num_classes and not store.labels.is_sampled
    return has_tail and has_temperature(loss) and loss.name != "standardised_kl" and not drops_it


def _temperatures(loss: DecisionLoss) -> list[float]:
    """The one of training, or some from the first to the last one."""
    start, end = temperature_of(loss), getattr(loss, "temperature_end", None)
    if start is None:
        return []
    return [start] if end is None else np.linspace(start, end, ON_THE_WAY).tolist()


def _hottest(loss: DecisionLoss) -> float | None:
    """Where the least is kept."""
    return max(_temperatures(loss), default=None)


def _tail_of(loss: DecisionLoss) -> Tail:
    tail: Tail = getattr(loss, "tail", "uniform")
    return tail


def _mass_in_words(store: Store, temperature: float | None) -> str:
    """Of a loss without a temperature at the stored one nearest to 1."""
    if store.k == store.num_classes:
        return f"{store.name}: holds all {store.num_classes:,} classes of the teacher"
    at = min(store.temperatures, key=lambda each: abs(math.log(each))) if temperature is None else temperature
    what = "summed probability" if store.head == "sigmoid" else "teacher's probability"
    where = f"at T={at:g}" if temperature is None else f"at the temperature of training, T={at:g}"
    mass = store.origin.mass_at(at)
    why = "" if store.interpolates else ", the only one at which it is known how much the others have"
    return f"{store.name}: its {store.k} of {store.num_classes:,} classes have {mass:.2f} of the {what} {where}{why}"
