"""Samples with several hard targets each, of different classes: one label column for each head of a student."""

# Shape letters: N samples.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption
from softlab.sources.known_classes import KnownClasses
from softlab.sources.source import Sample, SkippedSample, Source, read_samples, source_in_a_line

ClassNames = Mapping[str, tuple[str, ...] | None]
"""Of each hard target by its name."""


def target_class_names(source: Source) -> ClassNames:
    """What the classes of each hard target are called. A source with several of them tells it as an attribute of this
    name; the only one of another source is over that source's classes."""
    found: ClassNames | None = getattr(source, "target_class_names", None)
    if found is not None:
        return found
    return dict.fromkeys(source.targets, source.class_names if len(source.targets) == 1 else None)


def with_one_target(source: Source, name: str | None) -> Source:
    """The source with one of its hard targets, over the classes of that one; with none for None."""
    if name is None:
        return KnownClasses(source=source, targets={}, class_names=None)
    return KnownClasses(
        source=source, targets={name: source.targets[name]}, class_names=target_class_names(source).get(name)
    )


def open_columns(columns: Sequence[str], open_column: Callable[[str], Source]) -> Source:
    """One source of the hard targets of several label columns, each opened by `open_column`. Raises InvalidOption for a
    column without one label a sample."""
    opened = {column: open_column(column) for column in columns}
    for column, source in opened.items():
        if column not in source.targets:
            raise InvalidOption(
                f"{source.name}: the column {column!r} has no labels, or a list of them for a sample. Name columns of "
                f"one label a sample as `source.label_columns`."
            )
    return SeveralTargets(
        source=next(iter(opened.values())),
        targets={column: source.targets[column] for column, source in opened.items()},
        target_class_names={column: source.class_names for column, source in opened.items()},
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SeveralTargets:
    """Another source, with these hard targets."""

    source: Source
    targets: Mapping[str, NDArray[np.int64]]
    target_class_names: ClassNames

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def keys(self) -> Sequence[str]:
        return self.source.keys

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """None: each hard target has its own."""
        return None

    @property
    def skipped(self) -> tuple[SkippedSample, ...]:
        return self.source.skipped

    @property
    def field_names(self) -> tuple[str, ...]:
        return self.source.field_names

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return source_in_a_line(self)

    def read(self, index: int) -> Sample:
        return self.source.read(index)

    def read_many(self, indices: Sequence[int]) -> list[Sample]:
        return read_samples(self.source, indices)
