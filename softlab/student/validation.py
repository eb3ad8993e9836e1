"""What students are measured on while they train."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from softlab.errors import InvalidOption, StoreMismatch, UnreadableSample
from softlab.loading.loader import BatchLoader
from softlab.sources.answers import answers_of
from softlab.sources.label_sequences import label_sequences
from softlab.sources.label_sets import label_sets
from softlab.sources.source import Source
from softlab.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """What students are measured on after every epoch, for `train_students` and `search`."""

    source: Source
    store: Store | None = None
    """The teacher's output for it; without it only accuracy is measured."""

    others: tuple[Store, ...] = ()
    """Of further teachers, where the heads of students have several."""

    has_relevance: bool = False
    """Whether it tells how relevant each candidate of a sample is."""

    has_own_targets: bool = False
    """Whether its units tell their own hard targets, as tokens do."""

    def __post_init__(self) -> None:
        if self.has_relevance or self.has_own_targets:
            return
        told = (label_sets, label_sequences, answers_of)
        if self.store is None and not self.source.targets and all(each(self.source) is None for each in told):
            raise InvalidOption(
                f"{self.source.name}: has neither hard targets nor a store to measure students against. "
                f"Give `valid_store`, or another `valid.path`."
            )

    @property
    def stores(self) -> tuple[Store, ...]:
        """Of all teachers."""
        return () if self.store is None else (self.store, *self.others)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """How students are compared while they train."""

    loader: BatchLoader
    """Of the validation samples."""

    best_by: str
    """The metric that makes an epoch the best."""


@contextmanager
def reading_samples_of(section: str) -> Iterator[None]:
    """Names the options of this section, such as `valid`, where one of its samples can't be read."""
    try:
        yield
    except UnreadableSample as error:
        raise UnreadableSample(str(error).replace("`source.", f"`{section}.")) from error.__cause__


def check_comparable(valid: Validation, stores: Sequence[Store], *, by_classes: bool = True) -> None:
    """Raises StoreMismatch for a validation store of another teacher; of students that give no classes, these don't
    count."""
    own = valid.store
    if own is not None and stores and not any(is_comparable(own, store, by_classes=by_classes) for store in stores):
        names = " or ".join(store.name for store in stores)
        raise StoreMismatch(
            f"{own.name}: was not made by the teacher of {names}, or is over other classes or of another "
            f"head. Dump the validation source with the same teacher, or leave `valid_store` out."
        )


def is_comparable(one: Store, other: Store, *, by_classes: bool = True) -> bool:
    """Whether they are of one teacher, and over the same classes; of students that give none, these don't count."""
    return _are_of_one_teacher(one, other) if by_classes else _have_the_same_weights(one, other)


def _are_of_one_teacher(one: Store, other: Store) -> bool:
    """The classes of one of them may have no names, as where a data set has other ones, or not all of them."""
    names = {store.class_names for store in (one, other) if store.class_names is not None}
    return len(names) < 2 and _teacher_of(one) == _teacher_of(other)


def _have_the_same_weights(one: Store, other: Store) -> bool:
    return one.manifest.teacher.weights_fingerprint == other.manifest.teacher.weights_fingerprint


def _teacher_of(store: Store) -> tuple[str, int | None, str | None]:
    """Of a store of values alone without classes and head."""
    classes = (store.num_classes, store.head) if store.has_labels else (None, None)
    return store.manifest.teacher.weights_fingerprint, *classes
