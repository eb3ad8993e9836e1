"""A source whose classes are some of those that a model, a store or another data set knows: its targets by name.

Class folders that are missing, stand in another order or are written in another Unicode form shift the numbers of all
that follow; their names tell which class is meant.
"""

# Shape letters: N samples, C classes of the source.

import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softlab.errors import OddLabels, SourceError, StoreMismatch, first_few, suggest
from softlab.ranks import is_first_rank
from softlab.sources.answers import Answers, answers_of
from softlab.sources.label_sequences import LabelSequences, label_sequences
from softlab.sources.label_sets import LabelSets, label_sets, move_classes
from softlab.sources.source import Sample, SkippedSample, Source, read_samples, source_in_a_line

Relation = Literal["same", "known", "others", "unclear"]
"""Of a source's classes to those that are known: the very same; some of them, by name; classes of another kind, whose
labels are left aside; or neither of these."""

SHOWN_NAMES = 5


def with_known_classes(source: Source, names: Sequence[str] | None, *, whose: str) -> Source:
    """The source with its hard targets as `names` count them, where it has class names that are all among these. Where
    they are of another kind, or either side has no names, as it is: its labels are then left aside, or as they are.

    Warns with OddLabels, in one line, where targets are mapped. Raises StoreMismatch for names that are neither.
    """
    relation = class_relation(source, names)
    if names is None or relation in ("same", "others"):
        return source
    if relation == "unclear":
        raise StoreMismatch(_unclear(source, names, whose=whose))
    if is_first_rank():
        warnings.warn(_aligned(source, names, whose=whose), OddLabels, stacklevel=3)
    places = _places(names)
    lookup_C = np.array([_find(name, places) for name in source.class_names or ()], dtype=np.int64)
    return KnownClasses(
        source=source,
        targets={
            name: np.where(targets_N < 0, targets_N, lookup_C[targets_N]) for name, targets_N in source.targets.items()
        },
        class_names=tuple(names),
        label_sets=None
        if (sets := label_sets(source)) is None
        else move_classes(sets, lookup_C, num_classes=len(names)),
        label_sequences=None if (sequences := label_sequences(source)) is None else sequences.moved(lookup_C),
    )


def counted_from(source: Source, first: int) -> Source:
    """The source with its hard targets counted from 0, which in it count from `first`. Raises SourceError where they
    have names, or one is lower."""
    if source.class_names is not None:
        raise SourceError(
            f"{source.name}: its hard targets are counted by the names of {len(source.class_names):,} classes. Leave "
            f"`source.first_label` out."
        )
    lowest = min(
        (int(targets_N[targets_N >= 0].min(initial=first)) for targets_N in source.targets.values()), default=first
    )
    if lowest < first:
        raise SourceError(f"{source.name}: has the label {lowest}, below `source.first_label = {first}`. Correct it.")
    targets = {
        name: np.where(targets_N < 0, targets_N, targets_N - first) for name, targets_N in source.targets.items()
    }
    return KnownClasses(source=source, targets=targets, class_names=None)


def class_relation(source: Source, names: Sequence[str] | None) -> Relation:
    """By the names of those classes that the source has samples of. `same` too where either side has no names."""
    ours = source.class_names
    if ours is None or names is None or ours == tuple(names):
        return "same"
    used, places = _used_names(source), _places(names)
    if all(_find(name, places) >= 0 for name in used):
        return "known"
    if len(ours) == len(names):
        return "unclear"  # the same classes under other names, or other classes: numbers can't tell
    theirs = {_folded(name) for name in names}
    shared = sum(_folded(name) in theirs for name in used)
    return "unclear" if 2 * shared >= min(len(used), len(names)) else "others"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KnownClasses:
    """Another source, whose hard targets count these classes."""

    source: Source
    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...] | None
    label_sets: LabelSets | None = None
    label_sequences: LabelSequences | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def keys(self) -> Sequence[str]:
        return self.source.keys

    @property
    def skipped(self) -> tuple[SkippedSample, ...]:
        return self.source.skipped

    @property
    def field_names(self) -> tuple[str, ...]:
        return self.source.field_names

    @property
    def answers(self) -> Answers | None:
        return answers_of(self.source)

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return source_in_a_line(self)

    def read(self, index: int) -> Sample:
        return self.source.read(index)

    def read_many(self, indices: Sequence[int]) -> list[Sample]:
        return read_samples(self.source, indices)


def _used_names(source: Source) -> list[str]:
    """Of the classes that have samples; of all, where the targets aren't known."""
    ours = source.class_names or ()
    used = {target for targets_N in source.targets.values() for target in np.unique(targets_N).tolist()}
    return [name for target, name in enumerate(ours) if target in used or not source.targets]


def _places(names: Sequence[str]) -> dict[str, int]:
    """Where each name stands, in its own and in its composed form, unless that is there twice."""
    composed = [_composed(name) for name in names]
    places: dict[str, int] = {}
    for written in (composed, names):
        counts = Counter(written)
        places |= {name: place for place, name in enumerate(written) if counts[name] == 1}
    return places


def _find(name: str, places: Mapping[str, int]) -> int:
    """-1 where it isn't there."""
    return places.get(name, places.get(_composed(name), -1))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    """As somebody may have written it who means the same."""
    return _composed(name).casefold().replace("_", " ").replace("-", " ").strip()


def _aligned(source: Source, names: Sequence[str], *, whose: str) -> str:
    ours = {_composed(name) for name in source.class_names or ()}
    lacking = [name for name in names if _composed(name) not in ours]
    there = f"{len(names) - len(lacking):,} of {len(names):,} there"
    if lacking:
        there += f", {first_few(lacking)} {'has' if len(lacking) == 1 else 'have'} no samples"
    else:
        there += f", in another {'order' if set(names) <= set(source.class_names or ()) else 'Unicode form'}"
    return f"{source.name}: classes aligned by name with those of {whose}: {there}"


def _unclear(source: Source, names: Sequence[str], *, whose: str) -> str:
    used, counts = _used_names(source), Counter(map(_composed, names))
    twice = [name for name in used if counts[_composed(name)] > 1]
    if twice:
        return (
            f"{source.name}: {twice[0]!r} is the name of {counts[_composed(twice[0])]} classes of {whose}, so that it "
            f"doesn't tell which is meant. Give each of those a name of its own, and rename the class here."
        )
    places = _places(names)
    unknown = [name for name in used if _find(name, places) < 0]
    return (
        f"{source.name}: {first_few(unknown)} {'is' if len(unknown) == 1 else 'are'} none of the {len(names):,} "
        f"classes of {whose} ({_shorten(names)}). {suggest(unknown[0], names)} Give the classes here the same names "
        f"(of a folder, rename it), or leave their samples out."
    )


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (", .." if len(names) > SHOWN_NAMES else "")
