"""Train students from stored labels, all of them in one pass over the data; or a teacher, on hard targets alone."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from torch import nn

from softlab.errors import InvalidOption, SlowReads
from softlab.labels.chance import LabelClasses
from softlab.loading.content_check import overlap_note, warn_of_content
from softlab.loading.label_check import stored_label_note, warn_of_labels
from softlab.loading.lengths import lengths_of
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.modality import InputOptions, check_known, default_input, outputs_of_input, settle_input
from softlab.modalities.views import ViewOptions
from softlab.models.device import choose_device
from softlab.sources.source import Source
from softlab.store.joined import join_outputs
from softlab.store.mapped import whole_of
from softlab.store.reader import Store
from softlab.student import label_notes
from softlab.student.collectives import check_batch_size, join_training
from softlab.student.compare import class_names_of_students, compare_on
from softlab.student.heads.data import align_heads, look_at_heads
from softlab.student.heads.plan import plan_heads
from softlab.student.inputs import TrainingData, align_inputs, check_views_per_image
from softlab.student.kept import keep_samples
from softlab.student.learners import make_learners
from softlab.student.loop import OnProgress, Training
from softlab.student.mapped import mapping_lines, read_at_training
from softlab.student.options import DistilOptions, RunOptions, Student, TrainOptions, check_warmup
from softlab.student.run_folder import RunFolder, StudentResult, holding
from softlab.student.run_record import about_students, describe_run
from softlab.student.temperatures import settle_temperatures
from softlab.student.unread_answers import tell_unread_answers
from softlab.student.validation import Validation, reading_samples_of
from softlab.student.values_outputs import settle_values_outputs

OnStart = Callable[[Sequence[str]], None]
"""Called once, with lines that a person should read before the first step."""


def train_students(
    students: Mapping[str, nn.Module | Student],
    source: Source,
    stores: Sequence[Store],
    options: TrainOptions | None = None,
    *,
    input: InputOptions | None = None,
    augment: ViewOptions | None = None,
    valid: Validation | None = None,
    also_valid: Mapping[str, Validation] | None = None,
    out: str | Path | None = None,
    on_progress: OnProgress | None = None,
    on_start: OnStart | None = None,
) -> list[StudentResult]:
    """Train the given modules in place, in one pass over the data; their results in the same order.

        store = softlab.open_store("runs/pets.zarr")
        (result,) = softlab.train_students({"small": model}, source, [store], out="runs/small")

    With stores, on their soft labels mixed with hard targets, and on the very views that the teachers saw; with none,
    on hard targets alone, each epoch on a fresh view as `augment` says. A `Student` brings what is its own, a bare
    module learns as `options.learn` says. Students are measured on `valid`, which decides what epoch is the best, and
    on the sets of `also_valid`. Where `learn.head` names heads, each of these outputs of a student's model learns a
    stored output of its own. With `out`, weights and metrics are written there, a killed run goes on exactly
    where its last checkpoint was, and a finished one returns its results without training (the modules then stay as
    they are). `on_start` is called with what is to be known of the labels: how much of the teacher they hold at the
    temperature of training.

    A student that fails (a loss that isn't finite, no memory) is set aside, its result has the error, and the others go
    on; if all fail, the last one's error is raised. Processes started by torchrun share the work: each gets its part of
    every batch, and the first one writes.

    Raises StoreMismatch if stores, source, views, students or an interrupted run don't belong together, InvalidOption
    for a temperature below the stored ones or too far from them (`check.tail_nats`), a metric in `run.best_by` that
    can't be measured, or options that have no effect together, TrainingFailed for a loss that isn't finite. Warns with
    SlowReads where a store is too large for its row cache and `distil.shuffle` is full, with OddLabels where hard
    targets contradict the teacher or count other classes, with OddSource where samples are both trained on and measured
    on, with LittleMass where most of the teacher's probability at the training temperature isn't stored, with
    InterpolatedTail where that temperature isn't, and with LossyLabels where a loss looks at logits that were left out
    or clipped.
    """
    options = options or TrainOptions()
    run = options.run
    _check_effects(options, has_stores=bool(stores), is_measured=valid is not None)
    given = {name: _as_student(student, input or default_input()) for name, student in students.items()}
    _check_own_options(given, run)
    given = _with_settled_inputs(given, source)
    inputs = tuple(dict.fromkeys(student.input for student in given.values() if student.input is not None))
    _check_validation(valid, also_valid or {}, inputs)
    outputs = _joined_outputs(given)
    plans = plan_heads(given, options, source, stores)
    if plans and outputs:
        raise InvalidOption(f"head: the students give {' and '.join(outputs)} together. Leave the heads out.")
    stores = [join_outputs(store, outputs) for store in stores]
    values_output = None
    if not plans:
        given, values_output = settle_values_outputs(given, options.learn, stores)
        options, given = settle_temperatures(options, given, list(map(whole_of, stores)))
    learnt = [student.learn or options.learn for student in given.values()]
    wholes = list(map(whole_of, stores))
    tasks = {f"head {name}: ": (plan.learnt, [plan.store]) for name, plan in plans.items()} or {"": (learnt, wholes)}
    stores = read_at_training(stores, [] if plans else learnt)
    device, loader = choose_device(options.device.name), LoaderOptions(workers=options.device.workers)
    ranks = join_training(device)
    features = {feature for student in given.values() for feature in (student.learn or options.learn).feature}
    if plans:
        data = align_heads(plans, source, stores, inputs, options, augment=augment, features=sorted(features))
    else:
        data = align_inputs(
            source, stores, inputs, options, augment=augment, features=sorted(features), values_output=values_output
        )
    check_views_per_image(data, options)
    aligned, kept = keep_samples(data.aligned, options)
    data = replace(data, aligned=aligned, kept=kept)
    features |= set(aligned.features)
    source = aligned.source
    train_loader = BatchLoader(data.aligned, device=device, options=loader, keep_decoded=True)
    for learning, teaching in tasks.values():
        label_notes.check_interpolation(learning, teaching, most_nats=options.check.tail_nats, is_told=ranks.is_first)
    if ranks.is_first:
        _look_at_samples(data, valid, labels=options.check.labels)
    measured_on = partial(
        compare_on,
        trained_on=data.aligned,
        stores=stores,
        inputs=inputs,
        options=options,
        device=device,
        values=values_output,
        plans=plans,
    )
    comparison = measured_on(valid)
    others = {name: measured_on(each, is_main=False) for name, each in (also_valid or {}).items()}
    num_samples = min(run.max_samples or len(source), len(source))
    order = ShuffledBatches(
        num_samples=num_samples,
        batch_size=run.batch_size,
        epochs=run.epochs,
        seed=run.seed,
        num_views=data.num_views,
        view_order=options.distil.view_order,
        block_rows=_block_rows(source, stores, features, options),
        lengths_N=lengths_of(data.aligned, count=num_samples) if run.batch_by_length else None,
        views_per_image=run.views_per_image,
    )
    check_batch_size(
        min(order.batch_size, order.num_samples), ranks, parts=run.accumulate, views_per_image=run.views_per_image
    )
    learners = make_learners(given, options, order, train_loader, num_stores=len(stores), ranks=ranks, plans=plans)
    if ranks.is_first:
        tell_unread_answers(train_loader)
    told: tuple[str, ...] = ()
    if ranks.is_first:
        lines = {where: label_notes.warn_of_losses(*task) for where, task in tasks.items()}
        told = (*(where + line for where, own in lines.items() for line in own), *mapping_lines(stores))
    told += (kept.line,) if kept is not None and ranks.is_first else ()
    with ExitStack() as held:
        for learner in learners:
            held.callback(learner.finish)
        folder = None
        if out is not None:
            held.enter_context(holding(Path(out), ranks=ranks))
            best_by = None if comparison is None else comparison.best_by
            record = describe_run(learners, data, valid, also_valid or {}, options, best_by=best_by)
            gives_classes = values_output is None and not plans
            class_names = class_names_of_students(source, stores, options) if gives_classes else None
            about = about_students(record, class_names=class_names)
            folder = RunFolder(Path(out), record, begin_anew=options.log.resume == "no", about=about, ranks=ranks)
            finished = folder.results()
            if finished is not None:
                return finished
        if on_start is not None and told:
            on_start(told)
        loaders = {name: each.loader for name, each in others.items() if each is not None}
        return Training(learners, train_loader, comparison, loaders, order, options, folder, ranks).run(on_progress)


def _look_at_samples(data: TrainingData, valid: Validation | None, *, labels: LabelClasses) -> None:
    """Warns with OddLabels and OddSource."""
    aligned = data.aligned
    if aligned.store is not None and aligned.values_output is None and not aligned.new_classes:
        warn_of_labels(stored_label_note(aligned.source, aligned.store, aligned.store_N, labels=labels))
    look_at_heads(aligned, labels=labels)
    if valid is not None:
        warn_of_content(overlap_note(valid.source, valid.store, aligned.source, aligned.store))


def _as_student(given: nn.Module | Student, input: InputOptions) -> Student:
    student = Student(module=given) if isinstance(given, nn.Module) else given
    return student if student.input is not None else replace(student, input=input)


def _with_settled_inputs(students: Mapping[str, Student], source: Source) -> dict[str, Student]:
    settled = {
        each: settle_input(each, source) for each in dict.fromkeys(student.input for student in students.values())
    }
    return {name: replace(student, input=settled[student.input]) for name, student in students.items()}


def _check_validation(
    valid: Validation | None, also_valid: Mapping[str, Validation], inputs: Sequence[InputOptions]
) -> None:
    """Raises UnreadableSample for a validation sample with what the inputs don't know."""
    named = {} if valid is None else {"valid": valid}
    for section, each in (named | {f"also_valid.{name}": each for name, each in also_valid.items()}).items():
        with reading_samples_of(section):
            check_known(each.source, inputs)


def _joined_outputs(students: Mapping[str, Student]) -> tuple[str, ...]:
    """What all students give together, each a row of its sample. Raises InvalidOption where that isn't the same."""
    outputs = {name: outputs_of_input(student.input) for name, student in students.items()}
    first = next(iter(outputs), "")
    for name, own in outputs.items():
        if own != outputs[first]:
            raise InvalidOption(
                f"students {first} and {name}: one gives {' and '.join(outputs[first]) or 'logits'}, the other "
                f"{' and '.join(own) or 'logits'}, and all students of a run are measured alike. Train them in two "
                f"runs."
            )
    return outputs.get(first, ())


def _check_own_options(students: Mapping[str, Student], run: RunOptions) -> None:
    """Raises InvalidOption for options of a student that don't fit the run."""
    for name, student in students.items():
        if student.learn is not None:
            check_warmup(student.learn.optimizer, run, student=name)


def _check_effects(options: TrainOptions, *, has_stores: bool, is_measured: bool) -> None:
    """Raises InvalidOption for options that would have no effect."""
    if options.run.patience is not None and not is_measured:
        raise InvalidOption(
            "run.patience: there is nothing to measure epochs on. Give `valid.path`, or leave `run.patience` out."
        )
    if options.distil != DistilOptions() and not has_stores:
        name = next(each.name for each in fields(DistilOptions) if getattr(options.distil, each.name) != each.default)
        raise InvalidOption(f"distil.{name}: has no effect without a store to learn from. Leave it out.")


def _block_rows(source: Source, stores: Sequence[Store], features: Iterable[str], options: TrainOptions) -> int | None:
    """How many successive samples stay near each other in every epoch: about those of a shard of the store with the
    smallest ones; None for all in random order.

    Warns with SlowReads where that would decode most shards again and again.
    """
    if options.distil.shuffle == "blocks":
        per_store = (store.manifest.storage.shard_rows * len(source) // store.num_samples for store in stores)
        block_rows = min(per_store, default=None)
        return None if block_rows is None else max(block_rows, 1)
    for store in stores:
        if not store.fits_cache(name for name in features if name in store.feature_names):
            warnings.warn(
                f"{store.name}: is larger than the row cache may be, so that most of its shards are decoded again "
                f"every few batches. Say `distil.shuffle = blocks`, or give the cache more room with "
                f"`cache.max_bytes`.",
                SlowReads,
                stacklevel=3,
            )
    return None
