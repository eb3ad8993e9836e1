"""Train students from stored labels, all of them in one pass over the data; or a teacher, on hard targets alone."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from softlab.errors import InvalidOption, SlowReads
from softlab.evaluation.best import AUTO, choose_metric
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.modality import InputOptions, default_input
from softlab.modalities.views import ViewOptions
from softlab.models.device import choose_device
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.collectives import check_batch_size, join_training
from softlab.student.inputs import align_inputs
from softlab.student.learners import make_learners
from softlab.student.loop import OnProgress, Training
from softlab.student.options import OF_THE_RUN, Student, TrainOptions
from softlab.student.run_folder import RunFolder, StudentResult
from softlab.student.run_record import describe_run
from softlab.student.validation import Comparison, Validation, check_comparable


def train_students(
    students: Mapping[str, nn.Module | Student],
    source: Source,
    stores: Sequence[Store],
    options: TrainOptions | None = None,
    *,
    input: InputOptions | None = None,
    augment: ViewOptions | None = None,
    valid: Validation | None = None,
    out: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[StudentResult]:
    """Train the given modules in place, in one pass over the data; their results in the same order.

        store = softlab.open_store("runs/pets.zarr")
        (result,) = softlab.train_students({"small": model}, source, [store], out="runs/small")

    With stores, on their soft labels mixed with hard targets, and on the very views that the teachers saw; with none,
    on hard targets alone, each epoch on a fresh view as `augment` says. A `Student` brings options and an input of its
    own, a bare module has the run's. With `out`, weights and metrics are written there, a killed run goes on exactly
    where its last checkpoint was, and a finished one returns its results without training (the modules then stay as
    they are).

    A student that fails (a loss that isn't finite, no memory) is set aside, its result has the error, and the others go
    on; if all fail, the last one's error is raised. Processes started by torchrun share the work: each gets its part of
    every batch, and the first one writes.

    Raises StoreMismatch if stores, source, views, students or an interrupted run don't belong together, InvalidOption
    for a temperature below the stored ones, a metric in `best_by` that can't be measured, or an option of a student
    that is the run's, TrainingFailed for a loss that isn't finite. Warns with SlowReads where a store is too large for
    its row cache and `shuffle` is full.
    """
    options = options or TrainOptions()
    given = {name: _as_student(name, student, options, input or default_input()) for name, student in students.items()}
    inputs = tuple(dict.fromkeys(student.input for student in given.values() if student.input is not None))
    device, loader = choose_device(options.device), LoaderOptions(workers=options.workers)
    ranks = join_training(device)
    features = {feature for student in given.values() for feature in student.options.feature}
    data = align_inputs(source, stores, inputs, options, augment=augment, features=sorted(features))
    train_loader = BatchLoader(data.aligned, device=device, options=loader, keep_decoded=True)
    comparison = _compare_on(valid, source, stores, inputs=inputs, options=options, device=device)
    order = ShuffledBatches(
        num_samples=min(options.max_samples or len(source), len(source)),
        batch_size=options.batch_size,
        epochs=options.epochs,
        seed=options.seed,
        num_views=data.num_views,
        view_order=options.view_order,
        block_rows=_block_rows(source, stores, features, options),
    )
    check_batch_size(min(order.batch_size, order.num_samples), ranks)
    learners = make_learners(given, options, order, train_loader, num_stores=len(stores), ranks=ranks)
    try:
        folder = None
        if out is not None:
            best_by = None if comparison is None else comparison.best_by
            run = describe_run(learners, data, valid, options, best_by=best_by)
            folder = RunFolder(Path(out), run, ranks=ranks)
            finished = folder.results()
            if finished is not None:
                return finished
        return Training(learners, train_loader, comparison, order, options, folder, ranks).run(on_progress)
    finally:
        for learner in learners:
            learner.finish()


def _as_student(name: str, given: nn.Module | Student, options: TrainOptions, input: InputOptions) -> Student:
    student = Student(module=given, options=options) if isinstance(given, nn.Module) else given
    student = student if student.input is not None else replace(student, input=input)
    for option in OF_THE_RUN:
        theirs, ours = getattr(student.options, option), getattr(options, option)
        if theirs != ours:
            raise InvalidOption(
                f"student {name}: {option} = {theirs}, but the run's is {ours}, and all its students share it. "
                f"Leave it out of the student's own options."
            )
    return student


def _compare_on(
    valid: Validation | None,
    source: Source,
    stores: Sequence[Store],
    *,
    inputs: tuple[InputOptions, ...],
    options: TrainOptions,
    device: torch.device,
) -> Comparison | None:
    """The validation samples, aligned. Raises StoreMismatch and InvalidOption as `train_students`."""
    if valid is None:
        if options.best_by != AUTO:
            raise InvalidOption(f"best_by = {options.best_by}: there is nothing to measure it on. Give --valid.")
        return None
    if valid.store is not None and options.new_classes:
        raise InvalidOption("--valid-store: with --new-classes students have classes that it lacks. Leave it out.")
    check_comparable(valid, source, stores)
    aligned = align_inputs(valid.source, [valid.store] if valid.store else [], inputs, options).aligned
    return Comparison(
        loader=BatchLoader(aligned, device=device, options=LoaderOptions(workers=options.workers), keep_decoded=True),
        best_by=choose_metric(options.best_by, aligned),
    )


def _block_rows(source: Source, stores: Sequence[Store], features: Iterable[str], options: TrainOptions) -> int | None:
    """How many successive samples stay near each other in every epoch: about those of a shard of the store with the
    smallest ones; None for all in random order.

    Warns with SlowReads where that would decode most shards again and again.
    """
    if options.shuffle == "blocks":
        per_store = (store.manifest.storage.shard_rows * len(source) // store.num_samples for store in stores)
        block_rows = min(per_store, default=None)
        return None if block_rows is None else max(block_rows, 1)
    for store in stores:
        if not store.fits_cache(name for name in features if name in store.feature_names):
            warnings.warn(
                f"{store.name}: is larger than the row cache may be, so that most of its shards are decoded again "
                f"every few batches. Say --shuffle blocks, or give the cache more room with --cache-max-bytes.",
                SlowReads,
                stacklevel=3,
            )
    return None
