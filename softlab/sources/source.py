"""What every data set offers: samples by index with their fields, keys, hard targets and content hashes."""

# Shape letters: N samples.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from softlab.amounts import format_count
from softlab.errors import InvalidOption, UnreadableSample, suggest

Raw = bytes | str | tuple[str, ...] | NDArray[Any]
"""What a field holds: encoded data, a text or several, or numbers."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One item of a source, not decoded."""

    index: int
    key: str
    fields: Mapping[str, Raw]
    content_hash: bytes
    """Of the fields, 16 bytes; see `softlab.identity.fields_hash`."""

    place: str
    """Where it lies on this machine, for messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedSample:
    """An item that could not be decoded and so has no index."""

    key: str
    reason: str


class Source(Protocol):
    """A data set with stable sample indices 0..N-1.

    Opening one decodes nothing, samples may be read in any order, and pickling one (for a loader's workers) copies no
    samples. One that reads several samples faster at once has a `read_many`, see `read_samples`.
    """

    @property
    def name(self) -> str:
        """Kind and last part of the path, for messages and manifests."""
        ...

    @property
    def keys(self) -> Sequence[str]:
        """Unique, and the same whenever the same data is opened."""
        ...

    @property
    def targets(self) -> Mapping[str, NDArray[np.int64]]:
        """Hard targets by name, each int64 [N] and -1 where unknown; empty where there are none."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    @property
    def skipped(self) -> tuple[SkippedSample, ...]: ...

    @property
    def field_names(self) -> tuple[str, ...]:
        """Of every sample."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """Raises UnreadableSample if the item can't be read."""
        ...


def source_in_a_line(source: Source, *, chosen_from: int | None = None) -> str:
    """`FolderSource(folder:pets, 7,390 samples, 37 classes)`, or `100 of 7,390 samples` where they were chosen."""
    samples = format_count(len(source) if chosen_from is None else chosen_from, "sample")
    chosen = "" if chosen_from is None else f"{len(source):,} of "
    targets = f"hard targets {', '.join(source.targets)}" if source.targets else "no hard targets"
    classes = targets if source.class_names is None else f"{len(source.class_names):,} classes"
    skipped = f", {len(source.skipped):,} skipped" if source.skipped else ""
    return f"{type(source).__name__}({source.name}, {chosen}{samples}, {classes}{skipped})"


def hard_targets(source: Source, name: str | None = None) -> NDArray[np.int64] | None:
    """The hard targets of a source, int64 [N], -1 where one is unknown: those of that name, or else the only ones; None
    where there are none. Raises InvalidOption for an unknown name, and where there are several and none is named."""
    targets = source.targets
    if name is None and len(targets) > 1:
        raise InvalidOption(
            f"{source.name}: has the hard targets {', '.join(targets)}. Name one of them (of a table as "
            f"`source.label_column`), or learn each with a head of its own (`student.NAME.head`)."
        )
    if name is not None and name not in targets:
        raise InvalidOption(f"{source.name}: has no hard targets {name!r}. {suggest(name, targets)}")
    return next(iter(targets.values()), None) if name is None else targets[name]


def read_samples(source: Source, indices: Sequence[int]) -> list[Sample]:
    """Some samples, at once where a source has a `read_many`. Raises UnreadableSample if one can't be read."""
    read_many = getattr(source, "read_many", None)
    samples: list[Sample] = [source.read(index) for index in indices] if read_many is None else read_many(indices)
    return samples


def unreadable(error: Exception, *, key: str, place: str) -> UnreadableSample:
    """The error to raise from `error`, which tells what is wrong with the sample."""
    return UnreadableSample(
        f"{place}: sample {key!r} can't be read: {_describe(error)}. "
        f"Repair or remove it, or leave such samples out with `source.skip_unreadable = true`."
    )


def reason_of(error: UnreadableSample) -> str:
    """What is wrong, without the place, which differs between machines."""
    cause = error.__cause__
    return _describe(cause) if isinstance(cause, Exception) else str(error)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # without the file name, which the place gives
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__
