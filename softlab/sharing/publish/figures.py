"""Histograms for those who choose a store: how sure the teacher was, and how much probability its kept classes have."""

# Shape letters: B rows read, T temperatures.

from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from softlab.labels.captured import captured_mass, confidence
from softlab.labels.soft_labels import SoftLabels
from softlab.manifest.value_types import Count, Fingerprint, Positive, Record, Temperature
from softlab.store.reader import Store

MAX_ROWS = 1 << 16
MAX_SHARDS = 32
"""Most that is read. The rows are spread over the store, because neighbours in a source are often of one class."""

BINS = 20

Histogram = Annotated[tuple[Count, ...], Meta(min_length=BINS, max_length=BINS)]
"""Rows in bins of equal width from 0 to 1; a value between two bins is in the upper one."""


class Figures(Record, frozen=True, kw_only=True):
    """What `versions/3.figures.json` holds."""

    format: Literal["softlab-figures"] = "softlab-figures"
    format_version: Literal[1] = 1
    digest: Fingerprint
    """Of the store."""

    rows: Positive
    """How many were measured."""

    confidence_temperature: Temperature
    """1, or the smallest one stored where 1 is not."""

    confidence: Histogram
    """Probability of the teacher's first class."""

    temperatures: tuple[Temperature, ...]
    captured_mass: tuple[Histogram, ...]
    """Probability of all kept classes together, one histogram a temperature."""


def measure_figures(store: Store) -> Figures:
    """The figures of a store, from at most 65,536 of its rows. Raises DamagedStore as reading does."""
    read = _read_some(store)
    stored = store.temperatures
    temperature = 1.0 if 1.0 in stored else stored[0]
    captured_BT = torch.cat([captured_mass(labels) for labels in read])
    return Figures(
        digest=store.digest,
        rows=sum(map(len, read)),
        confidence_temperature=temperature,
        confidence=_histogram(torch.cat([confidence(labels, temperature=temperature) for labels in read])),
        temperatures=stored,
        captured_mass=tuple(_histogram(column_B) for column_B in captured_BT.unbind(1)),
    )


def encode_figures(figures: Figures) -> bytes:
    return msgspec.json.encode(figures) + b"\n"


def _read_some(store: Store) -> list[SoftLabels]:
    """Rows at equal distances, of shards at equal distances."""
    shards = list(store.manifest.grid)
    chosen = [shards[number] for number in _spread(len(shards), MAX_SHARDS)]
    read = []
    for shard in chosen:
        arrays = store.read_shard(shard)
        rows = _spread(len(next(iter(arrays.values()))), MAX_ROWS // len(chosen))
        read.append(store.coding.decode({name.rpartition("/")[2]: array[rows] for name, array in arrays.items()}))
    return read


def _spread(length: int, count: int) -> list[int]:
    """Up to so many of the numbers below `length`, at equal distances."""
    count = min(length, count)
    return [number * length // count for number in range(count)]


def _histogram(values_B: Tensor) -> tuple[int, ...]:
    counts, _ = np.histogram(values_B.clamp(0, 1).numpy(), bins=BINS, range=(0, 1))
    return tuple(counts.tolist())
