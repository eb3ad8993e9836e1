"""A source whose images are decoded once, whoever reads them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from softlab.sources.source import Sample, SkippedSample, Source


class KeptImages:
    """The same source; each image that was read stays in memory."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._samples: dict[int, Sample] = {}

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def keys(self) -> Sequence[str]:
        return self._source.keys

    @property
    def targets_N(self) -> NDArray[np.int64] | None:
        return self._source.targets_N

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self._source.class_names

    @property
    def skipped(self) -> tuple[SkippedSample, ...]:
        return self._source.skipped

    def __len__(self) -> int:
        return len(self._source)

    def raw_bytes(self, number: int) -> bytes:
        return self._source.raw_bytes(number)

    def read(self, number: int) -> Sample:
        """Raises as the source's own."""
        sample = self._samples.get(number)
        if sample is None:
            sample = self._samples[number] = self._source.read(number)
        return sample
