"""Students over other classes than their teachers': the temperature that stores are read at, and what is left out."""

from collections.abc import Iterable, Sequence

import numpy as np

from softlab.errors import InvalidOption
from softlab.labels.losses import DecisionLoss, LossOnValues, temperature_of
from softlab.labels.mapped_labels import left_out_mass
from softlab.labels.told import already_told
from softlab.loading.label_check import looked_at
from softlab.store.mapped import MappedStore
from softlab.store.reader import Store
from softlab.student.options import LearnOptions

NEEDS_ALL_LOGITS = ("mse", "standardised_kl")


def read_at_training(stores: Sequence[Store], learn: Iterable[LearnOptions]) -> list[Store]:
    """The stores, mapped ones as they are read at the temperature of the students' losses.

    Raises InvalidOption where these are several and labels are right at one alone, as classes are merged, or the
    teacher's tail is shared; for losses and tails that such labels don't have; and for a tail that isn't known there.
    """
    learnt = dict.fromkeys(each.loss for each in learn if max(each.teachers.alpha, each.teachers.alpha_end or 0))
    losses = [loss for loss in learnt if not isinstance(loss, LossOnValues)]
    return [_read_at_training(store, losses) if isinstance(store, MappedStore) else store for store in stores]


def mapping_lines(stores: Sequence[Store]) -> tuple[str, ...]:
    """What is to be told of each mapped store before students learn from it."""
    return tuple(_line(store) for store in stores if isinstance(store, MappedStore))


def _read_at_training(store: MappedStore, losses: Sequence[DecisionLoss]) -> MappedStore:
    if store.is_exact or not losses:
        return store
    why = "classes are merged" if store.classes.merges else f"{store.whole.k} of its {store.whole.num_classes} are kept"
    for loss in losses:
        if loss.name in NEEDS_ALL_LOGITS or getattr(loss, "tail", "uniform") != "uniform":
            what = loss.name if loss.name in NEEDS_ALL_LOGITS else f"loss.tail = {getattr(loss, 'tail', None)}"
            raise InvalidOption(
                f"{store.name}: over other classes ({why}) its labels are probabilities whose tail is shared equally, "
                f"which is nothing for {what}. Take `loss.name = kl` and `loss.tail = uniform`, or no `classes`."
            )
    found = {each for loss in losses for each in _temperatures(loss, lowest=store.whole.temperatures[0])}
    if len(found) > 1:
        raise InvalidOption(
            f"{store.name}: over other classes ({why}) its labels are right at one temperature, but the students train "
            f"at {', '.join(f'{each:g}' for each in sorted(found))}. Give all of them the same `loss.temperature`, "
            f"without `loss.temperature_end`."
        )
    mapped = store.at(found.pop())
    with already_told():
        mapped.read([0])  # raises where a tail isn't known at this temperature
    return mapped


def _temperatures(loss: DecisionLoss, *, lowest: float) -> tuple[float, ...]:
    start, end = temperature_of(loss), getattr(loss, "temperature_end", None)
    start = max(1.0, lowest) if start is None else start
    return (start,) if end is None else (start, end)


def _line(store: MappedStore) -> str:
    classes, whole = store.classes, store.whole
    counts = f"{classes.num_classes:,} classes of students, from {classes.num_teacher:,} of the teacher"
    if not classes.num_left_out:
        return f"{store.name}: {counts}, none left out"
    if whole.head == "sigmoid":
        return f"{store.name}: {counts}, {classes.num_left_out:,} left out"
    _, store_S = looked_at(whole, np.arange(whole.num_samples))
    with already_told():
        left_out_S = left_out_mass(whole.read(store_S), classes, temperature=store.temperature)
    most = float((left_out_S > 0.5).double().mean())
    return (
        f"{store.name}: {counts}, {classes.num_left_out:,} left out, with {float(left_out_S.mean()):.3f} of its "
        f"probability at T={store.temperature:g}; in {most:.1%} of samples they have more than half of it"
    )
