"""Hard targets of a source beside a store that is read over other classes than its teacher's."""

# Shape letters: N samples, C the teacher's classes.

import numpy as np

from softlab.labels.class_map import ClassMap
from softlab.sources.known_classes import KnownClasses, class_relation, with_known_classes
from softlab.sources.label_sequences import label_sequences
from softlab.sources.label_sets import label_sets, move_classes
from softlab.sources.source import Source
from softlab.store.mapped import MappedStore


def with_mapped_classes(source: Source, store: MappedStore) -> Source:
    """The source with its hard targets as students count their classes.

    Where it has the teacher's names, each target goes with its class, and becomes unknown where students lack that;
    where it has the students' names, or none, it counts as they do. Raises StoreMismatch as `with_known_classes`.
    """
    ours, theirs = store.class_names, store.whole.class_names
    is_the_students = source.class_names is None or class_relation(source, ours) in ("same", "known")
    if is_the_students or theirs is None or class_relation(source, theirs) not in ("same", "known"):
        return with_known_classes(source, ours, whose=f"the students of {store.name}")
    aligned = with_known_classes(source, theirs, whose=store.name)
    lookup_C = _students_class(store.classes)
    targets = {
        name: np.where(targets_N < 0, targets_N, lookup_C[targets_N]) for name, targets_N in aligned.targets.items()
    }
    assert ours is not None, "the teacher has names, so the students' classes have"
    sets_NC = label_sets(aligned)
    moved_NC = None if sets_NC is None else move_classes(sets_NC, lookup_C, num_classes=store.classes.num_classes)
    sequences = label_sequences(aligned)
    return KnownClasses(
        source=aligned,
        targets=targets,
        class_names=ours,
        label_sets=moved_NC,
        label_sequences=None if sequences is None else sequences.moved(lookup_C),
    )


def _students_class(classes: ClassMap) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Of each class of the teacher, -1 where it is none of the students'."""
    lookup_C = np.full(classes.num_teacher, -1, dtype=np.int64)
    for number, group in enumerate(classes.groups):
        lookup_C[list(group)] = number
    return lookup_C
