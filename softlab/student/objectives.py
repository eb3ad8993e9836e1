"""What each student of a run learns of its own output, and of which samples and stores it can't."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from softlab.errors import InvalidOption, OddLabels, StoreMismatch
from softlab.labels.losses import VALUES_LOSSES, check_loss_head, temperature_of
from softlab.labels.losses.checks import DROPS_TAIL, NO_LEVEL
from softlab.loading.aligned import Aligned
from softlab.loading.order import ShuffledBatches
from softlab.modalities.modality import tells_targets
from softlab.sources.label_sequences import label_sequences
from softlab.sources.label_sets import label_sets
from softlab.sources.source import hard_targets
from softlab.store.joined import JoinedStore
from softlab.store.reader import Store
from softlab.student.label_sets import check_multi_label
from softlab.student.objective import HARD_TARGETS, Objective, make_objective
from softlab.student.options import BALANCED, LearnOptions, Student, TrainOptions, check_warmup_steps

HARD_SUFFIX = "-hard"
"""Of the name of a student's hard-target baseline."""


def make_objectives(
    students: Mapping[str, Student],
    options: TrainOptions,
    aligned: Aligned,
    order: ShuffledBatches,
    *,
    num_stores: int,
) -> dict[str, Objective]:
    """What each student of one output learns, and each baseline behind them. Raises InvalidOption and StoreMismatch for
    what can't be learnt of these samples and stores."""
    wanted: list[tuple[str, LearnOptions, Objective]] = []
    for name, student in students.items():
        learn = student.learn or options.learn
        objective = make_objective(
            learn,
            num_stores=num_stores,
            new_classes=options.distil.new_classes,
            class_weights=_class_weights(learn, aligned, options),
        )
        objective = _of_known_targets(objective, aligned)
        if learn.robust is not None:
            objective = replace(objective, attacks_by_targets=learn.robust.attacks_by_targets)
        wanted.append((name, learn, objective))
    _check_one_kind({name: objective for name, _, objective in wanted}, options)
    if options.distil.baseline and num_stores:
        wanted += [(name + HARD_SUFFIX, learn, _hard_alone(objective)) for name, learn, objective in wanted]
    if aligned.store is not None:
        for name, _, objective in wanted:
            has_sets = label_sets(aligned.source) is not None
            if objective.values_output is None:
                teaching = _teaching(objective, aligned)
                _check_head(name, objective, teaching, num_stores=num_stores, has_sets=has_sets)
                if aligned.answers is None:  # else each row has a hard target
                    _check_units_are_labelled(name, objective, teaching, aligned)
    for name, learn, objective in wanted:
        check_multi_label(name, objective, aligned)
        check_warmup_steps(learn.optimizer, num_steps=order.num_steps, student=name)
        _check_temperatures(name, objective, aligned.labelled)
        _check_sampled(name, objective, aligned.labelled)
    return {name: objective for name, _, objective in wanted}


def _of_known_targets(objective: Objective, aligned: Aligned) -> Objective:
    """With alpha 1 where hard targets count other classes than the store, and are left aside."""
    teachers = objective.teachers
    if any(map(tells_targets, aligned.inputs)):
        return objective
    has_targets = hard_targets(aligned.source) is not None or label_sequences(aligned.source) is not None
    is_left_aside = aligned.store is not None and aligned.known_targets() is None and has_targets
    if not is_left_aside or teachers.alpha == 0 or (teachers.alpha == 1 and teachers.alpha_end in (None, 1)):
        return objective
    warnings.warn(
        f"{aligned.source.name}: its labels are left aside, so the students learn from the teacher alone, as with "
        f"`teachers.alpha = 1`",
        OddLabels,
        stacklevel=4,
    )
    return replace(objective, teachers=replace(teachers, alpha=1.0, alpha_end=None))


def _hard_alone(objective: Objective) -> Objective:
    return replace(HARD_TARGETS, label_smoothing=objective.label_smoothing, class_weights=objective.class_weights)


def _class_weights(learn: LearnOptions, aligned: Aligned, options: TrainOptions) -> tuple[float, ...]:
    """One a class; none where all count alike. Raises InvalidOption where they can't be told."""
    weights = learn.targets.class_weights
    if weights and options.distil.new_classes:
        raise InvalidOption("targets.class_weights: with `distil.new_classes` there are none. Leave one of them out.")
    if not isinstance(weights, str):
        return weights
    assert weights == BALANCED, "checked when it was built"
    known_N = aligned.known_targets(of_first=options.run.max_samples)
    if known_N is None:
        raise InvalidOption(
            f"targets.class_weights = {BALANCED!r}: {aligned.source.name} has no hard targets to count. Leave it out, "
            f"or give a source that has them (of a Parquet file, name their column with `source.label_column`)."
        )
    counts_C = np.bincount(known_N[known_N >= 0], minlength=_num_classes(aligned))
    mean = counts_C.sum() / max(np.count_nonzero(counts_C), 1)
    return tuple(float(mean / count) if count else 0.0 for count in counts_C.tolist())


def _num_classes(aligned: Aligned) -> int:
    targets = aligned.known_targets()
    if aligned.store is not None and aligned.store.has_labels:
        return aligned.store.num_classes
    names = aligned.source.class_names
    assert targets is not None, "its caller has looked"
    return int(targets.max()) + 1 if names is None else len(names)


def _check_one_kind(objectives: Mapping[str, Objective], options: TrainOptions) -> None:
    """Raises InvalidOption for what only students of classes have, where some learn values."""
    named = [name for name, objective in objectives.items() if objective.values_output is not None]
    if named and (options.distil.baseline or options.distil.new_classes):
        key = "baseline" if options.distil.baseline else "new_classes"
        raise InvalidOption(
            f"distil.{key}: student {named[0]} learns values, and gives no classes for hard targets. Leave "
            f"`distil.{key}` out."
        )


def _teaching(objective: Objective, aligned: Aligned) -> Store:
    """The first store that a student has its labels from; the first of all where there is none."""
    assert aligned.store is not None, "its caller has looked"
    return next(iter(aligned.labelled), aligned.store)


def _check_head(name: str, objective: Objective, store: Store, *, num_stores: int, has_sets: bool) -> None:
    """Raises StoreMismatch for what a student can't learn from teachers with the head of the store."""
    if not objective.learns_labels:
        return
    if not store.has_labels:
        raise StoreMismatch(
            f"student {name}: {store.name} holds no soft labels to learn by {objective.loss.name}, only values "
            f"({', '.join(store.feature_names)}). Learn them with `loss.name = cosine`, or another of "
            f"{', '.join(VALUES_LOSSES)}, and `teachers.alpha = 1`; or as features, each under `feature`, with "
            f"`teachers.alpha = 0`."
        )
    check_loss_head(objective.loss, store.head)
    if objective.loss.needs_level and not store.labels.absolute:
        raise StoreMismatch(f"student {name}: {store.name}: {NO_LEVEL.format(loss=objective.loss.name)}")
    if store.num_classes == 1 and objective.loss.head == "softmax":
        raise StoreMismatch(
            f"student {name}: {store.name} has one class under a softmax head, which is 1 whatever the logit is, so "
            f"there is nothing to learn. Dump the teacher again with `dump.head = sigmoid` and train with `loss.name = "
            f"bce` and `teachers.alpha = 1`, or, if it is a regression, say `loss.name = mse`."
        )
    if store.head == "sigmoid" and num_stores > 1:
        raise StoreMismatch(
            f"{store.name}: is of a teacher with a sigmoid head, and only teachers with a softmax head can be "
            f"combined. Train from one `store`."
        )
    if store.head == "sigmoid" and objective.needs_targets and not has_sets:
        raise StoreMismatch(
            f"student {name}: alpha below 1 adds hard targets, one class a sample, but {store.name} is of a teacher "
            f"with a sigmoid head, each class a choice of its own. Train on its labels alone, with `teachers.alpha = "
            f"1`, or in a search with `search.alpha = [1, 1]`."
        )


def _check_temperatures(name: str, objective: Objective, stores: Sequence[Store]) -> None:
    """Raises InvalidOption for a step of the run at a temperature that a stored tail can't be told at. It moves in
    equal steps, so it is coolest at one of its ends."""
    loss, end = objective.loss, objective.temperature_end
    start = temperature_of(loss)
    if start is None or not objective.learns_labels or loss.name == "standardised_kl":
        return
    coolest = start if end is None else min(start, end)
    drops_tail = len(stores) == 1 and getattr(loss, "tail", None) in DROPS_TAIL
    for store in stores:
        selection = store.labels.selection
        lowest = selection.temperatures[0]
        if selection.k < store.num_classes and coolest < lowest and not drops_tail:
            option = "temperature" if coolest == start else "temperature_end"
            raise InvalidOption(
                f"student {name}: loss.{option} = {coolest:g}, but {store.name} has tails at "
                f"{', '.join(f'{stored:g}' for stored in selection.temperatures)}, and a tail can't be rebuilt below "
                f"them. Say `loss.{option} = {lowest:g}` or more, or dump again with {coolest:g} among "
                f"`dump.temperature`."
            )


def _check_sampled(name: str, objective: Objective, stores: Sequence[Store]) -> None:
    """Raises InvalidOption for what isn't learnt of rows that are samples, before the first of them is read."""
    sampled = next((store for store in stores if store.has_labels and store.labels.is_sampled), None)
    if sampled is None or not objective.learns_labels:
        return
    loss, end = objective.loss, objective.temperature_end
    if len([store for store in stores if store.has_labels]) > 1:
        raise InvalidOption(
            f"student {name}: {sampled.name} holds samples of its rows, which aren't mixed with those of another "
            f"teacher. Give one `store`, or dump both teachers with `dump.selection = topk`."
        )
    if loss.name != "kl" or temperature_of(loss) != 1 or end not in (None, 1):
        raise InvalidOption(
            f"student {name}: {sampled.name} holds samples of its rows, which are right in the mean for `loss.name = "
            f"kl` at `loss.temperature = 1` alone. Say so, or dump with `dump.selection = topk`."
        )


def _check_units_are_labelled(name: str, objective: Objective, store: Store, aligned: Aligned) -> None:
    """Raises StoreMismatch for a student of hard targets, one a sample, beside a store whose samples have several rows;
    and for one of hard targets of units beside a store of whole samples."""
    has_units = store.has_labels and store.labels.units
    are_of_units = label_sequences(aligned.source) is not None or any(map(tells_targets, aligned.inputs))
    asks = objective.needs_targets or objective.teachers.weigh == "correctness" or not objective.learns_labels
    if has_units and asks and not are_of_units:
        if isinstance(store, JoinedStore):
            raise StoreMismatch(
                f"student {name}: the source tells no answers to learn beside {store.name}. Name their column as "
                f"`source.answer_column`, or train on its labels alone, with `teachers.alpha = 1` and without "
                f"`distil.baseline`."
            )
        raise StoreMismatch(
            f"student {name}: hard targets are one a sample, but {store.name} has a row for each unit of a sample. "
            f"Train on its labels alone, with `teachers.alpha = 1` and a `loss.name` that needs no targets, and "
            f"without `distil.baseline`; or give a source with a label for each unit, as `source.label_sequences`."
        )
    if store.has_labels and are_of_units and asks and not has_units:
        raise StoreMismatch(
            f"student {name}: {aligned.source.name} has a label for each unit of a sample, but {store.name} has one "
            f"row a sample. Give a store of a teacher that answers for each unit, with its `input.unit`."
        )
