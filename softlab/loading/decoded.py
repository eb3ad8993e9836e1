"""Decoded samples that are kept for when they are asked for again, such as in the next epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from softlab.modalities.views import Example

DECODED_BYTES = 1 << 30
"""Of decoded samples that are kept, in all workers together."""

SAMPLE_BYTES, TENSOR_BYTES, OBJECT_BYTES = 320, 600, 112
"""What one takes in memory beside its values, as measured on 200,000 of one byte; of a small sample that is most."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedSample:
    """One sample as the modalities of a run decode it."""

    content_hash: bytes
    examples: Mapping[str, Example]
    """By the modality's name."""

    @property
    def nbytes(self) -> int:
        return SAMPLE_BYTES + sum(map(_bytes_of, self.examples.values()))


@dataclass(slots=True)
class Decoded:
    """Samples of one source by index, until they take `max_bytes`; what comes later isn't kept."""

    max_bytes: int
    _samples: dict[int, DecodedSample] = field(default_factory=dict)
    _bytes: int = 0

    def get(self, source_index: int) -> DecodedSample | None:
        return self._samples.get(source_index)

    def keep(self, source_index: int, sample: DecodedSample) -> None:
        if self._bytes < self.max_bytes:
            self._samples[source_index] = sample
            self._bytes += sample.nbytes


def _bytes_of(example: Example) -> int:
    """What its tensors, arrays, bytes and texts take, and what it says itself; anything else counts as 64."""
    match example:
        case Tensor():
            return TENSOR_BYTES + int(example.nbytes)
        case np.ndarray():
            return OBJECT_BYTES + int(example.nbytes)
        case bytes() | str():
            return OBJECT_BYTES + len(example)
        case Mapping():
            return sum(map(_bytes_of, example.values()))
        case tuple() | list():
            return sum(map(_bytes_of, example))
        case object(nbytes=int() as size):
            return OBJECT_BYTES + size
        case _:
            return 64
