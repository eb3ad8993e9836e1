"""What every data set offers: samples by index, their keys, hard targets and content hashes."""

# Shape letters: N samples, C channels (1 grey, 3 RGB), H height, W width.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One decoded item of a source."""

    index: int
    image_CHW: Tensor
    """uint8."""

    content_hash: bytes
    """Of the source's `raw_bytes`, 16 bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedSample:
    """An item that could not be decoded and so has no index."""

    key: str
    reason: str


class Source(Protocol):
    """A data set with stable sample indices 0..N-1.

    Opening one decodes nothing, samples may be read in any order, and pickling one (for a loader's workers) copies no
    images.
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
    def targets_N(self) -> NDArray[np.int64] | None:
        """Hard targets, -1 where one is unknown; None where all are."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    @property
    def skipped(self) -> tuple[SkippedSample, ...]: ...

    def __len__(self) -> int: ...

    def raw_bytes(self, index: int) -> bytes:
        """What the content hash covers: the encoded image, or the pixels where the data set has no encoded images."""
        ...

    def read(self, index: int) -> Sample:
        """Raises UnreadableSample if the item can't be read or decoded."""
        ...
