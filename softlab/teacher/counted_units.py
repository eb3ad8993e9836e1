"""What all samples tell of units (positions, tokens) before a teacher sees them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.teacher.forward import TeacherOutput
from softlab.teacher.options import DumpOptions


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CountedUnits:
    """What all samples tell of outputs with units; the teacher isn't run for it."""

    most: int | None = None
    """Rows that a sample has at most; None without units."""

    following_C: NDArray[np.int64] | None = None
    """Of language models: how often each token is the one that follows. Classes behind the last one never are."""


UNCOUNTED = CountedUnits()


def count_units(example: TeacherOutput, aligned: Aligned, options: DumpOptions) -> CountedUnits:
    """A convolutional model answers at the same number of positions for each sample, and the example tells it. Where
    the modality counts units itself, as of texts, all samples are prepared once and counted."""
    if example.counts_B is None:
        return UNCOUNTED
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=options.device.workers))
    most, following_C = 1, np.zeros(0, dtype=np.int64)
    for batch in loader.load(in_sequence(0, len(aligned.source), batch_size=options.batch_size)):
        units = batch.inputs[0].units
        if units is None:
            return CountedUnits(most=int(example.counts_B.max()))
        most = max(most, int(units.rows_B.max()))
        if units.targets_R is not None:
            here_C = np.bincount(units.targets_R.numpy(), minlength=len(following_C))
            here_C[: len(following_C)] += following_C
            following_C = here_C
    return CountedUnits(most=most, following_C=following_C if len(following_C) else None)
