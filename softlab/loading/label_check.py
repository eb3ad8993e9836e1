"""Are hard targets those of the teacher? Compared before they are trained on, or counted."""

# Shape letters: N samples, S of them looked at.

import warnings
from functools import partial

import numpy as np
from numpy.typing import NDArray

from softlab.errors import OddLabels
from softlab.indices import StoreIndex
from softlab.labels.class_mapping import FEWEST_ROWS, describe_mapping, find_mapping
from softlab.loading.sample_check import comparable_targets
from softlab.sources.source import Source, hard_targets
from softlab.store.reader import Store

LOOKED_AT = 2048
"""Samples."""

FAR_FEWER = 10
"""Times."""

MOST_SHARDS = 16
"""That they are in: to read a row, its whole shard is decoded."""


def label_note(
    source: Source,
    source_S: NDArray[np.int64],
    predicted_S: NDArray[np.int64],
    *,
    num_classes: int,
    is_stored: bool = False,
) -> str:
    """What is odd about a source's hard targets, given the teacher's largest class for some of its samples; empty
    where nothing is."""
    targets_N = hard_targets(source)
    if targets_N is None:
        return ""
    told = partial(describe_mapping, class_names=source.class_names, is_stored=is_stored)
    comparable_N = comparable_targets(source, num_classes=num_classes)
    mapping = find_mapping(predicted_S, (targets_N if comparable_N is None else comparable_N)[source_S])
    if comparable_N is None:
        if mapping is not None and mapping.offset is not None:
            return f"{_left_aside(source, num_classes)}; {told(mapping)}"
        return _left_aside(source, num_classes)
    if mapping is None:
        return _doubt(source, comparable_N[source_S], predicted_S, num_classes=num_classes)
    return f"{source.name}: {told(mapping)}"


def _doubt(source: Source, targets_S: NDArray[np.int64], predicted_S: NDArray[np.int64], *, num_classes: int) -> str:
    """That numbers without names may count other classes: far fewer than the teacher has, at which it is hardly ever
    right. Nothing else can tell 5 own classes from the first 5 of 1,000."""
    known_S = targets_S >= 0
    num_known, seen = int(known_S.sum()), int(targets_S.max(initial=-1)) + 1
    num_right = int((targets_S == predicted_S)[known_S].sum())
    if source.class_names is not None or num_known < FEWEST_ROWS or seen * FAR_FEWER > num_classes:
        return ""
    if num_right > num_known / (2 * seen):
        return ""
    return (
        f"{source.name}: its labels go up to {seen - 1}, the teacher or model has {num_classes:,} classes, and its "
        f"largest one is the label of {num_right:,} of {num_known:,} samples that were looked at. If these are labels "
        f"of other classes, write them as texts, then they are left aside; or train with `teachers.alpha = 1`"
    )


def stored_label_note(source: Source, store: Store, store_N: StoreIndex | None = None) -> str:
    """The same by what a store holds; `store_N` is where the source's samples stand in it, if they aren't all of them.
    Nothing for mixed views, and where a sample has several rows: they have no one target."""
    if not store.has_labels or store.labels.units or store.manifest.views.mixing is not None:
        return ""
    source_S, store_S = looked_at(store, np.arange(len(source)) if store_N is None else store_N)
    labels = store.read(store_S)
    predicted_S = labels.class_ids_BK[:, 0].long().numpy()
    is_stored = source.class_names == store.class_names
    return label_note(source, source_S, predicted_S, num_classes=store.num_classes, is_stored=is_stored)


def left_aside_note(source: Source, *, num_classes: int) -> str:
    """That a source's hard targets are of other classes than a teacher's or model's; empty where they aren't, or where
    there are none."""
    is_known = hard_targets(source) is None or comparable_targets(source, num_classes=num_classes) is not None
    return "" if is_known else _left_aside(source, num_classes)


def looked_at(store: Store, store_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], StoreIndex]:
    """The indices, of source and store, of some samples of shards from all over the store."""
    parts_N = store_N // store.manifest.storage.shard_rows
    parts = np.unique(parts_N)
    chosen = parts[np.linspace(0, len(parts) - 1, min(len(parts), MOST_SHARDS)).astype(np.int64)]
    source_S = np.flatnonzero(np.isin(parts_N, chosen))
    source_S = source_S[np.linspace(0, len(source_S) - 1, min(len(source_S), LOOKED_AT)).astype(np.int64)]
    return source_S, StoreIndex(store_N[source_S])


def warn_of_labels(note: str) -> None:
    """With OddLabels, where there is something to tell."""
    if note:
        warnings.warn(note, OddLabels, stacklevel=3)


def _left_aside(source: Source, num_classes: int) -> str:
    targets_N = hard_targets(source)
    assert targets_N is not None, "its caller has looked"
    names = source.class_names
    found = f"labels up to {int(targets_N.max())}" if names is None else f"{len(names):,} classes"
    return (
        f"{source.name}: labels of other classes ({found}, the teacher or model has {num_classes:,}), left aside: they "
        f"are neither compared nor trained on. If these are some of its classes, name all of them as "
        f"`source.class_names` (of folders, and of labels that are texts)"
    )
