"""What a metric needs of the data that a model is measured on."""

from typing import Literal

from softlab.loading.aligned import Aligned

Need = Literal["targets", "teacher", "softmax"]
"""Hard targets; stored labels; no teacher with a sigmoid head, which gives no distribution over the classes."""

LACKING: dict[Need, str] = {
    "targets": "it has no hard targets, or its views are mixed from two samples and have no one target",
    "teacher": "there is no store of what a teacher said about it",
    "softmax": "its store is of a teacher with a sigmoid head, which gives no distribution over the classes",
}
"""Why a metric can't be measured."""


def what_is_known(aligned: Aligned) -> frozenset[Need]:
    """Of these data."""
    targets_N = aligned.targets_N
    known: dict[Need, bool] = {
        "targets": targets_N is not None and bool((targets_N >= 0).any()) and not aligned.replay.mixes,
        "teacher": aligned.store is not None,
        "softmax": aligned.store is None or aligned.store.head == "softmax",
    }
    return frozenset(need for need, is_known in known.items() if is_known)
