"""Of which classes the hard targets of a source are, by what the teacher says of some samples: before the first row."""

# Shape letters: S samples looked at.

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from softlab.indices import SourceIndex
from softlab.loading.aligned import Aligned
from softlab.loading.label_check import (
    LOOKED_AT,
    classes_of_labels,
    is_unnamed_and_few,
    label_note,
    warn_of_labels,
)
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices
from softlab.manifest import StorePlan
from softlab.sources.source import Source, hard_targets
from softlab.teacher.forward import TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.overflow import whole_mended
from softlab.teacher.selections import select_classes

SAMPLES_A_LABEL = 16
FEWEST_SAMPLES = 128


Predict = Callable[[SourceIndex], dict[str, NDArray[np.int64]]]
"""The largest class of some samples, int64 [S], by output of kind `classes`."""


def find_other_classes(predict: Predict, source: Source, plan: StorePlan, options: DumpOptions) -> frozenset[str]:
    """The outputs whose classes the source's hard targets don't count. Where only that tells, the teacher is asked
    about some samples; then warns with OddLabels."""
    outputs = [each for each in plan.classes if not each.units] if plan.views.mixing is None else []
    if options.labels == "other":
        return frozenset(output.name for output in outputs)
    unclear = {
        each.name: each.label_space.num_classes
        for each in outputs
        if is_unnamed_and_few(source, num_classes=each.label_space.num_classes)
    }
    if options.labels == "same" or not unclear:
        return frozenset()
    source_S = _some_labelled(source)
    predicted_S, found = predict(source_S), set()
    for name, num_classes in unclear.items():
        if classes_of_labels(source, source_S, predicted_S[name], num_classes=num_classes) == "other":
            found.add(name)
            warn_of_labels(label_note(source, source_S, predicted_S[name], num_classes=num_classes))
    return frozenset(found)


def _some_labelled(source: Source) -> SourceIndex:
    """From all over the source: enough for a teacher that is never right to be no chance."""
    targets_N = hard_targets(source)
    assert targets_N is not None, "they are few"
    known = np.flatnonzero(targets_N >= 0)
    count = min(max(FEWEST_SAMPLES, SAMPLES_A_LABEL * (int(targets_N.max()) + 1)), LOOKED_AT, len(known))
    return SourceIndex(known[np.linspace(0, len(known) - 1, count).astype(np.int64)])


def first_classes(
    source_S: SourceIndex, *, run: TeacherRun, aligned: Aligned, options: DumpOptions
) -> dict[str, NDArray[np.int64]]:
    """What a teacher that is run gives, as `Predict`."""
    loader = BatchLoader(aligned, device=run.device, options=LoaderOptions(workers=0))
    parts = np.array_split(source_S, -(-len(source_S) // options.batch_size))
    order = [RowIndices(SourceIndex(part), np.zeros_like(part)) for part in parts]
    outputs = [whole_mended(run, batch, compiled=False) for batch in loader.load(order)]
    return {
        name: torch.cat([select_classes(each.logits[name], options) for each in outputs]).numpy()
        for name in outputs[0].logits
    }
