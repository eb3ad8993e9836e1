"""Students of samples that may be of several classes at once."""

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.aligned import Aligned
from softlab.sources.label_sets import LabelSets, label_sets
from softlab.sources.source import Source
from softlab.student.objective import Objective


def check_multi_label(name: str, objective: Objective, aligned: Aligned) -> None:
    """Raises StoreMismatch and InvalidOption for what can't be learnt beside label sets."""
    if label_sets(aligned.source) is None or not objective.needs_targets:
        return
    store = aligned.store
    if store is not None and store.has_labels and store.head != "sigmoid":
        raise StoreMismatch(
            f"student {name}: samples of {aligned.source.name} may be of several classes, and {store.name} is of a "
            f"teacher with a softmax head, which chooses one. Train on its labels alone, with `teachers.alpha = 1`, or "
            f"dump the teacher with `dump.head = sigmoid`."
        )
    if aligned.label_sets_NC is None and store is not None:
        raise StoreMismatch(
            f"student {name}: the labels of {aligned.source.name} are of other classes than those of {store.name}. "
            f"Name them as the teacher does, or train with `teachers.alpha = 1`."
        )
    if aligned.replay.mixes:
        raise StoreMismatch(
            f"student {name}: the views are mixed of two samples (MixUp, CutMix), which samples of several classes "
            f"aren't. Choose views without mixing, or train with `teachers.alpha = 1`."
        )
    if objective.label_smoothing or objective.class_weights or objective.new_classes:
        raise InvalidOption(
            f"student {name}: `targets.label_smoothing`, `targets.class_weights` and `distil.new_classes` are for "
            f"samples of one class each, and those of {aligned.source.name} may be of several. Leave them out."
        )
    if objective.loss.needs_targets and objective.learns_labels:
        raise InvalidOption(
            f"student {name}: {objective.loss.name} needs one hard target a sample, and those of {aligned.source.name} "
            f"may be of several classes. Choose another `loss.name`."
        )


def check_label_sets(who: str, num_outputs: int, sets_NC: LabelSets, source: Source) -> None:
    """Raises StoreMismatch for a student with another number of outputs."""
    if num_outputs != sets_NC.shape[1]:
        raise StoreMismatch(
            f"{who} has {num_outputs} outputs, but the samples of {source.name} are of {sets_NC.shape[1]} "
            f"classes. Build the student with num_classes = {sets_NC.shape[1]}."
        )
