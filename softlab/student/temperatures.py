"""At which temperature students train where none is given, and how much of the teacher's probability is kept there."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from softlab.errors import LittleMass
from softlab.labels.gradient_angle import MANY_CLASSES
from softlab.labels.losses import settled_loss, temperature_of
from softlab.store.reader import Store
from softlab.student.options import LearnOptions, Student, TrainOptions

LITTLE_MASS = 0.5


def settle_temperatures(
    options: TrainOptions, students: Mapping[str, Student], stores: Sequence[Store]
) -> tuple[TrainOptions, dict[str, Student]]:
    """The same options, each loss with the temperature that the stores give it where none was given."""
    with_labels = [store for store in stores if store.has_labels]
    if not with_labels:
        return options, dict(students)
    first, lowest = with_labels[0], max(min(store.temperatures) for store in with_labels)

    def settled(learn: LearnOptions) -> LearnOptions:
        loss = settled_loss(learn.loss, num_classes=first.num_classes, head=first.head, lowest=lowest)
        return replace(learn, loss=loss)

    own = {
        name: student if student.learn is None else replace(student, learn=settled(student.learn))
        for name, student in students.items()
    }
    return replace(options, learn=settled(options.learn)), own


def warn_of_little_mass(learn: Iterable[LearnOptions], stores: Sequence[Store]) -> None:
    """With LittleMass, of a store of many classes whose kept ones have less than half of the probability at the
    temperature that students begin at."""
    temperatures = {temperature_of(each.loss) for each in learn if each.teachers.alpha > 0}
    for store in stores:
        if not store.has_labels or store.head != "softmax" or not MANY_CLASSES < store.num_classes != store.k:
            continue
        for temperature in sorted(each for each in temperatures if each is not None):
            mass = mass_at(store, temperature)
            if mass < LITTLE_MASS:
                stored = ", ".join(f"{mass_at(store, each):.2f} at T={each:g}" for each in store.temperatures)
                warnings.warn(
                    f"{store.name}: its {store.k} of {store.num_classes:,} classes have {mass:.2f} of the teacher's "
                    f"probability at `loss.temperature = {temperature:g}` ({stored}), so that most of what students "
                    f"learn is that the other classes are alike. {_lower(store, temperature)} with a larger `dump.k`",
                    LittleMass,
                    stacklevel=3,
                )


def _lower(store: Store, temperature: float) -> str:
    lowest = store.temperatures[0]
    if lowest < temperature and mass_at(store, lowest) >= LITTLE_MASS:
        return f"Train at `loss.temperature = {lowest:g}`, or dump"
    return "Dump"


def mass_at(store: Store, temperature: float) -> float:
    """What the kept classes have of the teacher's probability, mean over all rows; interpolated over 1 / T between
    stored temperatures, and outside of them that of the nearest."""
    betas = [1 / each for each in store.temperatures]
    masses = store.statistics.mean_captured_mass
    return float(np.interp(1 / temperature, betas[::-1], masses[::-1]))
