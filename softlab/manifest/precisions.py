"""In which precision the teacher ran each sample, where it wasn't the same for all."""

# Shape letters: S samples of a shard.

from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from softlab.manifest.records import Manifest
from softlab.manifest.storage import PrecisionRecord, ShardRecord


def spans_of(precision_S: NDArray[np.str_], *, start: int, usual: str) -> tuple[PrecisionRecord, ...] | UnsetType:
    """What a shard's record says, from the precision of each of its samples; `usual` is `teacher.precision`."""
    changes = np.flatnonzero(precision_S[1:] != precision_S[:-1]) + 1
    ends = [0, *changes.tolist(), len(precision_S)]
    spans = tuple(
        PrecisionRecord(start=start + first, stop=start + last, precision=str(precision_S[first]))
        for first, last in pairwise(ends)
        if precision_S[first] != usual
    )
    return spans or UNSET


def precision_of_each(shard: ShardRecord, *, usual: str) -> NDArray[np.str_]:
    """The inverse: of each of its samples."""
    spans = () if isinstance(shard.precisions, UnsetType) else shard.precisions
    width = max(map(len, (usual, *(span.precision for span in spans))))
    precision_S = np.full(shard.stop - shard.start, usual, dtype=f"<U{width}")
    for span in spans:
        precision_S[span.start - shard.start : span.stop - shard.start] = span.precision
    return precision_S


def with_precision(shard: ShardRecord, *, before: str, now: str) -> ShardRecord:
    """The same shard's record beside another `teacher.precision`."""
    precision_S = precision_of_each(shard, usual=before)
    return msgspec.structs.replace(shard, precisions=spans_of(precision_S, start=shard.start, usual=now))


def samples_by_precision(manifest: Manifest) -> dict[str, int]:
    """How many samples, in all views, were run in another precision than `teacher.precision`, by precision."""
    counts = Counter[str]()
    for shard in manifest.shards:
        for span in () if isinstance(shard.precisions, UnsetType) else shard.precisions:
            counts[span.precision] += span.stop - span.start
    return dict(sorted(counts.items()))
