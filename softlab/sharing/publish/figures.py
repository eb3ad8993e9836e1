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
    """The figures of a store, from at most 65,536 of its rows, and of sampled ones the probability of the classes that
    weren't drawn. Raises DamagedStore as reading does."""
    read = _read_sampled(store) if store.labels.is_sampled else _read_some(store)
    stored = store.temperatures
    temperature = 1.0 if 1.0 in stored else stored[0]
    captured_BT = torch.cat([captured_BT for _, captured_BT in read])
    return Figures(
        digest=store.digest,
        rows=len(captured_BT),
        confidence_temperature=temperature,
        confidence=_histogram(torch.cat([_confidence(labels, temperature=temperature) for labels, _ in read])),
        temperatures=stored,
        captured_mass=tuple(_histogram(column_B) for column_B in captured_BT.unbind(1)),
    )


def encode_figures(figures: Figures) -> bytes:
    return msgspec.json.encode(figures) + b"\n"


def _confidence(labels: SoftLabels, *, temperature: float) -> Tensor:
    """Of sampled rows the first class is never drawn."""
    return labels.max_logit_B.exp() if labels.is_sampled else confidence(labels, temperature=temperature)


def _read_some(store: Store) -> list[tuple[SoftLabels, Tensor]]:
    """Rows at equal distances, of shards at equal distances, and what their classes capture."""
    shards = list(store.manifest.grid)
    chosen = [shards[number] for number in _spread(len(shards), MAX_SHARDS)]
    read = []
    for shard in chosen:
        arrays = store.read_shard(shard)
        rows = _spread(len(next(iter(arrays.values()))), MAX_ROWS // len(chosen))
        labels = store.coding.decode({name.rpartition("/")[2]: array[rows] for name, array in arrays.items()})
        read.append((labels, captured_mass(labels)))
    return read


def _read_sampled(store: Store) -> list[tuple[SoftLabels, Tensor]]:
    """The same of samples at equal distances, with as many rows as there may be."""
    most = max(int(MAX_ROWS / max(store.rows_per_sample, 1)), 1)
    samples = _spread(store.num_samples, most)
    labels, num_head_B = store.read(samples), store.read_head_sizes(samples)
    assert num_head_B is not None, "its rows are sampled"
    weight_BK = (labels.logits_BK + labels.max_logit_B[:, None]).exp()
    is_head_BK = torch.arange(labels.k) < num_head_B[:, None]
    return [(labels, weight_BK.where(is_head_BK, 0).sum(dim=1, keepdim=True))]


def _spread(length: int, count: int) -> list[int]:
    """Up to so many of the numbers below `length`, at equal distances."""
    count = min(length, count)
    return [number * length // count for number in range(count)]


def _histogram(values_B: Tensor) -> tuple[int, ...]:
    counts, _ = np.histogram(values_B.clamp(0, 1).numpy(), bins=BINS, range=(0, 1))
    return tuple(counts.tolist())
