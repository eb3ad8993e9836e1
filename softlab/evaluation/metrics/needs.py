"""What a metric needs of the data that a model is measured on."""

import math
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softlab.loading.aligned import Aligned
from softlab.modalities.modality import tells_relevance, tells_targets
from softlab.sources.label_sets import LabelSets

TAG = re.compile("[BI]-(.+)")

Need = Literal[
    "targets",
    "logits",
    "answers",
    "label sets",
    "few classes",
    "six classes",
    "vocabulary",
    "entities",
    "teacher",
    "softmax",
    "all classes",
    "whole rows",
    "cut rows",
    "sampled rows",
    "temperature 1",
    "values",
    "teacher values",
    "vectors",
    "pairs",
    "relevance",
    "attack",
]
"""Hard targets of each row; models that give logits over classes; right answers, and models that seek them in texts;
samples that may be of several classes; classes that are counted one by one, six of them or more; or those of a
vocabulary, as of tokens, whose hard target is the next one; words whose classes are tags of entities; stored labels; no
teacher with a sigmoid head, which gives no distribution over the classes; no rows with fewer classes than others;
stored labels that keep all classes, that leave some out, or that are an unbiased sample of them; and that are known at
temperature 1; models that give values in place of logits; these of the teacher, stored; more than one number a row; two
vectors a row; candidates of which is known how relevant they are; samples that were changed so that the model errs."""

LACKING: dict[Need, str] = {
    "targets": "it has no hard targets, or its views are mixed from two samples and have no one target, or its samples "
    "have several rows each",
    "logits": "the models give values, and no logits over classes",
    "answers": "it tells no right answers (`source.answer_column`), or the models seek none",
    "label sets": "its samples are of one class each, or have no labels",
    "few classes": "its classes are a vocabulary, too many to be counted one by one",
    "six classes": "it has no more than five classes",
    "vocabulary": "its classes are no vocabulary",
    "entities": "its samples have no hard target for each word, called O, B-.. and I-..",
    "teacher": "there is no store of a teacher's output for it",
    "softmax": "its store is of a teacher with a sigmoid head, which gives no distribution over the classes",
    "all classes": "its store has rows with fewer classes than others",
    "whole rows": "its store keeps only some classes of each row",
    "cut rows": "its store keeps all classes, or a sample of them",
    "sampled rows": "its store keeps the largest classes of each row, and no sample of all",
    "temperature 1": "its store doesn't hold temperature 1",
    "values": "the models give logits over classes, and no values",
    "teacher values": "there is no store of the values that its teacher gives",
    "vectors": "what its store holds is one number a row",
    "attack": "samples are attacked by `softlab evaluate` alone, with `evaluate.robust`",
    "pairs": "what its store holds is not two vectors a row, those of the halves of a pair",
    "relevance": "no `input.relevance_field` tells how relevant its candidates are",
}
"""Why a metric can't be measured."""


def what_is_known(aligned: Aligned) -> frozenset[Need]:
    """Of these data."""
    targets_N, labels, gives_values = aligned.targets_N, None, aligned.values_output is not None
    shape = _shape_of_values(aligned)
    if aligned.store is not None and aligned.store.has_labels and not gives_values:
        labels = aligned.store.labels
    is_one_target = not aligned.replay.mixes and (labels is None or not labels.units)
    sequences = aligned.label_sequences if labels is None or labels.units else None
    units_U = None if sequences is None else sequences.targets_U
    is_vocabulary = not gives_values and any(map(tells_targets, aligned.inputs))
    is_sampled = labels is not None and labels.is_sampled
    known: dict[Need, bool] = {
        "targets": (_any_known(targets_N) and is_one_target)
        or (_any_known(units_U) and not gives_values)
        or is_vocabulary,
        "logits": not gives_values,
        "answers": aligned.answers is not None,
        "label sets": is_one_target and has_label_sets(aligned.label_sets_NC),
        "few classes": not is_vocabulary,
        "vocabulary": is_vocabulary,
        "six classes": _count_classes(aligned) >= 6,
        "entities": _any_known(units_U) and are_tags(class_names_of(aligned)),
        "teacher": labels is not None,
        "softmax": labels is None or labels.head == "softmax",
        "all classes": labels is None or not labels.valid,
        "whole rows": labels is not None and not is_sampled and labels.selection.k == labels.label_space.num_classes,
        "cut rows": labels is not None and not is_sampled and labels.selection.k < labels.label_space.num_classes,
        "sampled rows": is_sampled,
        "temperature 1": labels is not None and 1.0 in labels.selection.temperatures,
        "values": gives_values,
        "teacher values": aligned.values_output in aligned.features,
        "vectors": _count_numbers(aligned) != 1,
        "pairs": shape is not None and len(shape) == 2 and shape[0] == 2,
        "relevance": any(map(tells_relevance, aligned.inputs)),
    }
    return frozenset(need for need, is_known in known.items() if is_known)


def class_names_of(aligned: Aligned) -> tuple[str, ...] | None:
    """As hard targets count classes."""
    names = aligned.source.class_names
    return aligned.store.class_names if names is None and aligned.store is not None else names


def are_tags(names: Sequence[str] | None) -> bool:
    """Whether classes are called O, B-KIND and I-KIND, with a kind at least."""
    return names is not None and "O" in names and len(names) > 1 and all(n == "O" or TAG.fullmatch(n) for n in names)


def _any_known(targets: NDArray[np.int64] | None) -> bool:
    return targets is not None and bool((targets >= 0).any())


def _count_numbers(aligned: Aligned) -> int:
    """That a store holds for a row, of what models give; 0 where it holds nothing of it."""
    shape = _shape_of_values(aligned)
    return 0 if shape is None else math.prod(shape)


def _shape_of_values(aligned: Aligned) -> tuple[int, ...] | None:
    """Of a row; None where a store holds nothing of what models give."""
    output = aligned.values_output
    if output is None or output not in aligned.features:
        return None
    return aligned.features[output].shape_of(output)


def has_label_sets(sets_NC: LabelSets | None) -> bool:
    """Whether some row's are known."""
    return sets_NC is not None and bool((sets_NC >= 0).any())


def _count_classes(aligned: Aligned) -> int:
    """By stored labels, class names and hard targets; what tells the most of them is right."""
    labels = (
        aligned.store.labels.label_space.num_classes if aligned.store is not None and aligned.store.has_labels else 0
    )
    names = len(aligned.source.class_names or ())
    targets_N = aligned.known_targets()
    targets = 0 if targets_N is None else int(targets_N.max(initial=-1)) + 1
    return max(labels, names, targets)
