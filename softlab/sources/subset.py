"""Some samples of another source, counted from 0."""

# Shape letters: N samples.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, SourceError, UnreadableSample
from softlab.keys import Keys, find_all
from softlab.sources.answers import Answers, answers_of
from softlab.sources.label_sequences import LabelSequences, label_sequences
from softlab.sources.label_sets import LabelSets, label_sets
from softlab.sources.several_targets import ClassNames
from softlab.sources.source import (
    Sample,
    SkippedSample,
    Source,
    hard_targets,
    read_samples,
    reason_of,
    source_in_a_line,
)
from softlab.sources.spread import spread_indices


def first(source: Source, count: int) -> Source:
    """The first `count` samples. Raises InvalidOption if there are fewer."""
    if count > len(source):
        raise InvalidOption(
            f"{source.name}: limit {count:,}, but there are {len(source):,} samples. "
            f"Lower `source.limit` or leave it out."
        )
    return _subset(source, np.arange(count), skipped=source.skipped)


def spread_over(source: Source, count: int) -> Source:
    """So many samples from all over a source, or all of them."""
    chosen_N = spread_indices(len(source), count=min(count, len(source)))
    return _subset(source, chosen_N, skipped=source.skipped)


def with_targets(source: Source, targets: Sequence[int]) -> Source:
    """The samples with these hard targets, in their order. Raises InvalidOption where a target is of no sample."""
    known_N = hard_targets(source)
    targets_N = np.full(len(source), -1) if known_N is None else known_N
    found = [target for target in np.unique(targets_N).tolist() if target >= 0]
    missing = [target for target in targets if target not in found]
    if missing:
        shown = f"{', '.join(map(str, found[:10]))}{' ..' if len(found) > 10 else ''}" or "none"
        raise InvalidOption(
            f"{source.name}: no sample has the hard target {missing[0]} (there are: {shown}). Correct `source.targets`."
        )
    return _subset(source, np.flatnonzero(np.isin(targets_N, targets)), skipped=source.skipped)


def with_keys(source: Source, keys: Keys) -> Source:
    """The samples with these keys, in the order of the source. Raises InvalidOption where a key is of no sample."""
    chosen_N = find_all(keys, Keys(source.keys), where=f"{source.name} (`source.keys`)")
    return _subset(source, chosen_N, skipped=source.skipped)


def chosen(source: Source, chosen_N: NDArray[np.int64]) -> Source:
    """The samples at these indices, in their order."""
    return _subset(source, chosen_N, skipped=source.skipped)


def readable(
    source: Source, *, decode: Callable[[Sample], object], on_scan: Callable[[int, int], None] | None = None
) -> Source:
    """The samples that can be decoded, found by decoding all of them; the others are listed in `skipped`.

    `decode` raises UnreadableSample for one that can't be. `on_scan(done, total)` is called after each sample. Raises
    SourceError if none is left.
    """
    is_readable_N = np.ones(len(source), dtype=bool)
    skipped: list[SkippedSample] = []
    for index, key in enumerate(source.keys):
        try:
            decode(source.read(index))
        except UnreadableSample as error:
            is_readable_N[index] = False
            skipped.append(SkippedSample(key=key, reason=reason_of(error)))
        if on_scan is not None:
            on_scan(index + 1, len(source))
    if not is_readable_N.any():
        raise SourceError(
            f"{source.name}: none of {len(source):,} samples can be decoded; {skipped[0].key}: {skipped[0].reason}. "
            f"Check that the path holds such data."
        )
    return _subset(source, np.flatnonzero(is_readable_N), skipped=tuple(skipped)) if skipped else source


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subset:
    """Sample n is sample `chosen_N[n]` of the whole source."""

    source: Source
    chosen_N: NDArray[np.int64]
    name: str
    keys: Sequence[str]
    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...] | None
    skipped: tuple[SkippedSample, ...]
    field_names: tuple[str, ...]
    label_sets: LabelSets | None = None
    label_sequences: LabelSequences | None = None
    answers: Answers | None = None
    target_class_names: ClassNames | None = None
    """Of a source with several hard targets."""

    def __len__(self) -> int:
        return len(self.chosen_N)

    def __repr__(self) -> str:
        return source_in_a_line(self, chosen_from=len(self.source))

    def read(self, index: int) -> Sample:
        return replace(self.source.read(int(self.chosen_N[index])), index=index)

    def read_many(self, indices: Sequence[int]) -> list[Sample]:
        samples = read_samples(self.source, self.chosen_N[list(indices)].tolist())
        return [replace(sample, index=index) for sample, index in zip(samples, indices, strict=True)]


def _subset(source: Source, chosen_N: NDArray[np.int64], *, skipped: tuple[SkippedSample, ...]) -> Subset:
    return Subset(
        source=source,
        chosen_N=chosen_N,
        name=source.name,
        keys=Keys(source.keys).take(chosen_N),
        targets={name: targets_N[chosen_N] for name, targets_N in source.targets.items()},
        class_names=source.class_names,
        skipped=skipped,
        field_names=source.field_names,
        label_sets=None if (sets_NC := label_sets(source)) is None else sets_NC[chosen_N],
        label_sequences=None if (sequences := label_sequences(source)) is None else sequences.chosen(chosen_N),
        answers=None if (answers := answers_of(source)) is None else answers.take(chosen_N),
        target_class_names=getattr(source, "target_class_names", None),
    )
