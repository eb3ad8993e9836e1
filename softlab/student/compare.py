"""What the students of a run are compared on: a validation source, aligned as they see it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from softlab.errors import InvalidOption
from softlab.evaluation.best import AUTO, choose_metric
from softlab.labels.chance import LabelClasses
from softlab.loading.aligned import Aligned
from softlab.loading.label_check import is_unnamed_and_few, left_aside_note, stored_label_note, warn_of_labels
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.mapped_targets import with_mapped_classes
from softlab.modalities.modality import InputOptions
from softlab.ranks import is_first_rank
from softlab.sources.known_classes import with_known_classes
from softlab.sources.source import Source
from softlab.store.joined import join_outputs
from softlab.store.mapped import MappedStore
from softlab.store.reader import Store
from softlab.student.heads.compare import compare_heads
from softlab.student.heads.plan import HeadPlan
from softlab.student.inputs import align_inputs
from softlab.student.options import TrainOptions
from softlab.student.validation import Comparison, Validation, check_comparable


def compare_on(
    valid: Validation | None,
    *,
    trained_on: Aligned,
    stores: Sequence[Store],
    inputs: tuple[InputOptions, ...],
    options: TrainOptions,
    device: torch.device,
    values: str | None,
    plans: Mapping[str, HeadPlan],
    is_main: bool = True,
) -> Comparison | None:
    """The validation samples, aligned; None where nothing can be measured on them, as their labels are left aside. With
    `values` students give this output, and no classes; with `plans` an output for each of these heads.
    Raises StoreMismatch and InvalidOption as `train_students`."""
    best_by = options.run.best_by if is_main else AUTO
    if valid is not None and plans:
        return compare_heads(valid, plans, inputs, options, device=device, is_main=is_main, tells=is_first_rank())
    if valid is not None and valid.others:
        names = " and ".join(store.name for store in valid.stores)
        raise InvalidOption(f"valid_store: students of one output are measured against one, not {names}. Give one.")
    if valid is not None and valid.store is not None:
        valid = replace(valid, store=join_outputs(valid.store, trained_on.outputs))
    if valid is None:
        if best_by != AUTO:
            raise InvalidOption(f"run.best_by = {best_by}: there is nothing to measure it on. Give `valid.path`.")
        return None
    if valid.store is not None and options.distil.new_classes:
        raise InvalidOption(
            "`valid_store`: with `distil.new_classes` students have classes that it lacks. Leave it out."
        )
    if values is None:
        valid = replace(valid, source=_with_learnt_classes(valid.source, trained_on.source, stores, options))
    check_comparable(valid, stores, by_classes=values is None)
    stored = [valid.store] if valid.store else []
    aligned = align_inputs(valid.source, stored, inputs, options, values_output=values).aligned
    if valid.store is not None and values is None:
        _tell(stored_label_note(aligned.source, valid.store, aligned.store_N, labels=options.check.labels))
    if valid.store is None and stores:
        # decoded as what students are trained on
        aligned = replace(aligned, seen=stores[0].manifest.seen, cache=stores[0].cache)
    gives_classes = values is None and not options.distil.new_classes
    if valid.store is None and stores and stores[0].has_labels and gives_classes:
        aligned = _with_classes_of(stores[0], aligned, trained_on, labels=options.check.labels)
        told = (aligned.known_targets(), aligned.label_sets_NC, aligned.answers)
        has_targets = valid.has_relevance or valid.has_own_targets or any(each is not None for each in told)
        if not has_targets and best_by == AUTO and options.run.patience is None:
            return None
    return Comparison(
        loader=BatchLoader(
            aligned,
            device=device,
            options=LoaderOptions(workers=options.device.workers),
            keep_decoded=True,
            keep_workers=is_main,
        ),
        best_by=choose_metric(best_by, aligned),
    )


def _with_classes_of(store: Store, aligned: Aligned, trained_on: Aligned, *, labels: LabelClasses) -> Aligned:
    """Validation samples of which no store tells what the teacher says: numbers without names as labels are taken for
    what they are in training. Warns with OddLabels where hard targets are left aside."""
    source, num_classes = aligned.source, store.num_classes
    note = left_aside_note(source, num_classes=num_classes)
    if labels == "auto" and trained_on.labels == "other" and is_unnamed_and_few(source, num_classes=num_classes):
        labels = "other"
        note = f"{source.name}: labels of other classes, left aside as those of {trained_on.source.name}, its training"
    _tell(note)
    return replace(aligned, num_classes=num_classes, labels=labels)


def _with_learnt_classes(valid: Source, source: Source, stores: Sequence[Store], options: TrainOptions) -> Source:
    """A validation source whose hard targets count the students' classes. Raises StoreMismatch."""
    mapped = next((store for store in stores if isinstance(store, MappedStore)), None)
    if mapped is not None:
        return with_mapped_classes(valid, mapped)
    names = class_names_of_students(source, stores, options)
    return with_known_classes(valid, names, whose=source.name if names == source.class_names else stores[0].name)


def class_names_of_students(source: Source, stores: Sequence[Store], options: TrainOptions) -> tuple[str, ...] | None:
    """What the students' classes are called; None where nothing tells, as of a teacher without names whose classes
    aren't those of the source."""
    store = next((store for store in stores if store.has_labels), None)
    if options.distil.new_classes:
        return source.class_names
    if store is None:
        # Where the data lacks the last classes, a model may have outputs for the first ones alone.
        num_seen = [int(targets_N.max(initial=-1)) + 1 for targets_N in source.targets.values()]
        return source.class_names if not num_seen or len(source.class_names or ()) in num_seen else None
    is_same = source.class_names is not None and len(source.class_names) == store.num_classes
    return store.class_names or (source.class_names if is_same else None)


def _tell(note: str) -> None:
    """Warns with OddLabels, once a run."""
    if is_first_rank():
        warn_of_labels(note)
