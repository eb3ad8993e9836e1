"""Are hard targets those of the teacher? Compared before they are trained on, or counted."""

# Shape letters: N samples, S of them looked at.

import warnings
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softlab.errors import OddLabels
from softlab.indices import StoreIndex
from softlab.labels.chance import LabelClasses, is_at_chance
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


def is_unnamed_and_few(source: Source, *, num_classes: int) -> bool:
    """Whether a source's hard targets are numbers without names, far fewer than a teacher's classes: then nothing but
    how often it is right tells 5 own classes from the first 5 of 1,000."""
    targets_N = hard_targets(source)
    return source.class_names is None and targets_N is not None and _are_few(targets_N, num_classes=num_classes)


def classes_of_labels(
    source: Source,
    source_S: NDArray[np.int64],
    predicted_S: NDArray[np.int64],
    *,
    num_classes: int,
    labels: LabelClasses = "auto",
) -> Literal["same", "other"]:
    """Whether a source's hard targets are of the teacher's classes, given its largest class for some samples. Where
    `labels` doesn't say it, few numbers without names are of others if the teacher is right about them by chance at
    most."""
    targets_N = hard_targets(source)
    if labels != "auto":
        return labels
    if targets_N is None or not is_unnamed_and_few(source, num_classes=num_classes):
        return "same"
    return "other" if is_at_chance(predicted_S, targets_N[source_S], num_classes=num_classes) else "same"


def label_note(
    source: Source,
    source_S: NDArray[np.int64],
    predicted_S: NDArray[np.int64],
    *,
    num_classes: int,
    labels: LabelClasses = "auto",
    is_stored: bool = False,
) -> str:
    """What is odd about a source's hard targets, given the teacher's largest class for some of its samples; empty
    where nothing is, or the user knows it."""
    targets_N = hard_targets(source)
    if targets_N is None or labels == "other":
        return ""
    told = partial(describe_mapping, class_names=source.class_names, is_stored=is_stored)
    comparable_N = comparable_targets(source, num_classes=num_classes)
    mapping = find_mapping(predicted_S, (targets_N if comparable_N is None else comparable_N)[source_S])
    if comparable_N is None:
        if mapping is not None and mapping.offset is not None:
            return f"{_left_aside(source, num_classes)}; {told(mapping)}"
        return _left_aside(source, num_classes)
    if classes_of_labels(source, source_S, predicted_S, num_classes=num_classes, labels=labels) == "other":
        note = _left_aside_by_numbers(source, comparable_N[source_S], predicted_S, num_classes=num_classes)
        return note if mapping is None else f"{note}; {told(mapping)}"
    if mapping is not None:
        return f"{source.name}: {told(mapping)}"
    return "" if labels == "same" else _doubt(source, comparable_N[source_S], predicted_S, num_classes=num_classes)


def note_of_batches(predicted_N: NDArray[np.int64], targets_N: NDArray[np.int64], *, num_classes: int) -> str:
    """What is odd about the hard targets of a user's own batches, which have no names."""
    mapping = find_mapping(predicted_N, targets_N)
    told = "" if mapping is None else describe_mapping(mapping, None)
    if not _are_few(targets_N, num_classes=num_classes) or not is_at_chance(
        predicted_N, targets_N, num_classes=num_classes
    ):
        return f"your data set: {told}" if told else ""
    note = (
        f"your data set: labels of other classes: {_agreement(targets_N, predicted_N, num_classes=num_classes)}, which "
        f"is no more than by chance. Train on the teacher's labels alone, without a loss of hard targets"
    )
    return f"{note}; {told}" if told else note


def _are_few(targets_N: NDArray[np.int64], *, num_classes: int) -> bool:
    return 0 < (int(targets_N.max(initial=-1)) + 1) * FAR_FEWER <= num_classes


def _doubt(source: Source, targets_S: NDArray[np.int64], predicted_S: NDArray[np.int64], *, num_classes: int) -> str:
    """That numbers without names may be of other classes, though too few samples tell, or some agree."""
    known_S = targets_S >= 0
    num_known, seen = int(known_S.sum()), int(targets_S.max(initial=-1)) + 1
    num_right = int((targets_S == predicted_S)[known_S].sum())
    if not is_unnamed_and_few(source, num_classes=num_classes) or num_known < FEWEST_ROWS:
        return ""
    if num_right > num_known / (2 * seen):
        return ""
    return (
        f"{source.name}: {_agreement(targets_S, predicted_S, num_classes=num_classes)}. If these are labels of other "
        f"classes, leave them aside with `check.labels = other`, in a dump `dump.labels = other`"
    )


def _left_aside_by_numbers(
    source: Source, targets_S: NDArray[np.int64], predicted_S: NDArray[np.int64], *, num_classes: int
) -> str:
    agreement = _agreement(targets_S, predicted_S, num_classes=num_classes)
    return (
        f"{source.name}: labels of other classes, left aside: {agreement}, which is no more than by chance. They are "
        f"neither compared nor trained on. If they are of its classes, say `check.labels = same`, in a dump "
        f"`dump.labels = same`"
    )


def _agreement(targets_S: NDArray[np.int64], predicted_S: NDArray[np.int64], *, num_classes: int) -> str:
    known_S = targets_S >= 0
    num_right = int((targets_S == predicted_S)[known_S].sum())
    return (
        f"its labels go up to {int(targets_S.max())}, the teacher or model has {num_classes:,} classes, and its "
        f"largest one is the label of {num_right:,} of {int(known_S.sum()):,} samples that were looked at"
    )


def stored_classes_of_labels(
    source: Source, store: Store, store_N: StoreIndex, *, labels: LabelClasses = "auto"
) -> Literal["same", "other"]:
    """The same as `classes_of_labels`, by what a store holds of the source's samples, which are at `store_N` there."""
    if labels != "auto" or not _has_one_target(store) or not is_unnamed_and_few(source, num_classes=store.num_classes):
        return "other" if labels == "other" else "same"
    source_S, predicted_S = _predicted(store, store_N)
    return classes_of_labels(source, source_S, predicted_S, num_classes=store.num_classes)


def stored_label_note(
    source: Source, store: Store, store_N: StoreIndex | None = None, *, labels: LabelClasses = "auto"
) -> str:
    """The same as `label_note`, by what a store holds; `store_N` is where the source's samples stand in it, if they
    aren't all of them. Nothing for mixed views, and where a sample has several rows: they have no one target."""
    if not _has_one_target(store):
        return ""
    source_S, predicted_S = _predicted(store, StoreIndex(np.arange(len(source))) if store_N is None else store_N)
    is_stored = source.class_names == store.class_names
    return label_note(source, source_S, predicted_S, num_classes=store.num_classes, labels=labels, is_stored=is_stored)


def _has_one_target(store: Store) -> bool:
    return store.has_labels and not store.labels.units and store.manifest.views.mixing is None


def _predicted(store: Store, store_N: StoreIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The source indices of some samples, and the teacher's largest class of each."""
    source_S, store_S = looked_at(store, store_N)
    return source_S, store.read(store_S).class_ids_BK[:, 0].long().numpy()


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
