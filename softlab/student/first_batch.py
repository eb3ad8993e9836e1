"""What students give for the first batch of a run, compared with what they are to learn: a GPU would only abort."""

from collections.abc import Mapping

from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.evaluation.best import OF_EQUAL_SHAPES
from softlab.evaluation.metrics.of_head import split_name
from softlab.evaluation.tally import Given
from softlab.indices import SourceIndex
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.student.heads.objective import HeadsObjective
from softlab.student.label_sets import check_label_sets
from softlab.student.learner import Learner
from softlab.student.objective import Objective

OutputCounts = Mapping[str | None, int]
"""How many numbers a student gives for a row, by head; under None of one output."""


def units_of(aligned: Aligned, batch: Batch) -> Tensor | None:
    """The positions that the stored rows of a batch are of; None where samples have one row each."""
    if aligned.store is None or not aligned.store.has_labels or aligned.heads:
        return None
    return aligned.store.read_units(aligned.to_store(SourceIndex(batch.source_B.cpu().numpy())))


def count_outputs(given: Given) -> OutputCounts:
    """Of what a student gives."""
    if isinstance(given, Mapping):
        return {name: output.shape[1] for name, output in given.items()}
    return {None: given.shape[1]}


def check_given(learner: Learner, given: Given, batch: Batch, *, best_by: str | None) -> None:
    """Raises InvalidOption where epochs are compared by what can't be measured of this student."""
    head, metric = split_name(best_by or "")
    if metric not in OF_EQUAL_SHAPES:
        return
    objective = objectives_of(learner).get(head)
    output = None if objective is None else objective.values_output
    if output is None:
        return
    one = given[head] if isinstance(given, Mapping) and head is not None else given
    stored = (batch if head is None else batch.of_head(head)).features[output]
    assert not isinstance(one, Mapping), "a head of it"
    if one.shape[1:] != stored.shape[1:]:
        overlap = "teacher_overlap" if head is None else f"{head}/teacher_overlap"
        raise InvalidOption(
            f"run.best_by = {best_by}: student {learner.name} gives {list(one.shape[1:])} for a sample, and what is "
            f"stored as {output} is {list(stored.shape[1:])}. Say `run.best_by = {overlap}`, which takes any width."
        )


def check_hard_targets(learner: Learner, num_outputs: OutputCounts, aligned: Aligned) -> None:
    """Raises StoreMismatch for a hard target that a student, or one of its heads, has no output for."""
    for head, objective in objectives_of(learner).items():
        own = aligned if head is None else aligned.heads[head]
        if objective.needs_targets:
            of_head = "" if head is None else f": head {head}"
            _check_targets_of(f"student {learner.name}{of_head}", num_outputs[head], own)


def objectives_of(learner: Learner) -> Mapping[str | None, Objective]:
    """By head; under None that of a student with one output."""
    if isinstance(learner.objective, HeadsObjective):
        return dict(learner.objective.heads.items())
    return {None: learner.objective}


def _check_targets_of(who: str, num_outputs: int, aligned: Aligned) -> None:
    targets_N, sets_NC = aligned.known_targets(), aligned.label_sets_NC
    highest = -1 if targets_N is None else int(targets_N.max(initial=-1))
    if highest >= num_outputs:
        raise StoreMismatch(
            f"{who} has {num_outputs} outputs, but {aligned.source.name} has hard targets up to {highest}. Build the "
            f"student with num_classes = {highest + 1} or more."
        )
    if sets_NC is not None:
        check_label_sets(who, num_outputs, sets_NC, aligned.source)
