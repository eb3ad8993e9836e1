"""From a teacher, a source and options to a job: which views, which plan, and what the teacher gives for an example."""

import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from softlab.errors import UnseenWeights
from softlab.loading.aligned import Aligned
from softlab.manifest import InputRecord
from softlab.modalities.modality import (
    InputOptions,
    as_settled,
    default_input,
    modality_of,
    outputs_of_input,
    restate_input,
    settle_input,
    tells_targets,
)
from softlab.modalities.views import ViewOptions
from softlab.ranks import Ranks
from softlab.remote.remote import Place
from softlab.shards import MAX_SHARD_ROWS
from softlab.sources.known_classes import with_known_classes
from softlab.sources.source import Source
from softlab.store.access import settle_plan
from softlab.store.folder import find_finished, is_left_over
from softlab.store.place import place_of
from softlab.store.reader import Store, open_store
from softlab.teacher.counted_units import UNCOUNTED, count_units
from softlab.teacher.dumped_views import (
    Settled,
    check_addition,
    check_seen_before,
    choose_views,
    read_settled,
    settled_by,
)
from softlab.teacher.example import Example, example_of
from softlab.teacher.forward import Teacher, TeacherRun
from softlab.teacher.job import DumpJob
from softlab.teacher.label_classes import find_other_classes, first_classes
from softlab.teacher.options import ANSWER_K, DumpOptions
from softlab.teacher.outside_numbers import teacher_fingerprint
from softlab.teacher.pace import Pace
from softlab.teacher.plan import make_plan
from softlab.teacher.shared_dump import agree_on, plan_of_first


def plan_dump(
    teacher: Teacher | nn.Module,
    source: Source,
    out: str | Path,
    options: DumpOptions | None = None,
    *,
    augment: ViewOptions | None = None,
    like: Store | None = None,
) -> DumpJob:
    """A dump as a job whose shards any process may run, in any order.

        job = softlab.plan_dump(model, source, "runs/pets.zarr")
        job.run_shard(3)
        softlab.finalize("runs/pets.zarr")

    The job can be sent to workers; `finalize` comes once all of `job.shards` are there. Its plan is written down in
    `out`, and what is there already is gone on with. Arguments and errors are those of `dump_teacher`.
    """
    place, options = place_of(out), options or DumpOptions()
    teacher = named_teacher(teacher)
    options = options_for(teacher, options)
    with TeacherRun(teacher, options) as run:
        job = plan_job(run, teacher, source, place, options, augment=augment, like=like, ranks=Ranks())
    if find_finished(place, job.plan) is None:
        settle_plan(place, job.plan, expected=job.expected_samples, find_staying=job.find_staying)
    return job


def options_for(teacher: Teacher, options: DumpOptions) -> DumpOptions:
    """What the options leave open: of rows over a vocabulary that they are sampled, and that no digests are kept, as
    such samples are read as they are; and where a teacher gives several outputs together, these, over the classes that
    a sample has, with the largest ANSWER_K logits of each."""
    if options.selection == "auto":
        is_sampled = tells_targets(teacher.input) and options.k is None
        options = replace(options, selection="sampled" if is_sampled else "topk")
    if tells_targets(teacher.input) and options.pixel_digests == "some":
        options = replace(options, pixel_digests="none")
    outputs = outputs_of_input(teacher.input)
    if not outputs:
        return options
    k = min(ANSWER_K, getattr(teacher.input, "num_classes", ANSWER_K)) if options.k is None else options.k
    named = options.output != DumpOptions().output
    return replace(options, output=options.output if named else outputs, k=k, valid=not options.masked)


def as_teacher(module: nn.Module, *, input: InputOptions | None = None) -> Teacher:
    """A module of one's own, named by its class."""
    kind = type(module)
    name = f"{kind.__module__}:{kind.__qualname__}"
    return Teacher(module=module, name=name, arguments={}, input=input or default_input())


def named_teacher(teacher: Teacher | nn.Module) -> Teacher:
    return as_teacher(teacher) if isinstance(teacher, nn.Module) else teacher


def with_teachers_classes(source: Source, teacher: Teacher) -> Source:
    """The source with its hard targets as the teacher counts classes, where it names them; see `with_known_classes`, as
    which it raises. Labels of all of its classes and further ones are of others: students may learn these as new."""
    names = teacher.class_names
    if names is not None and set(names) < set(source.class_names or ()):
        return source
    return with_known_classes(source, names, whose=teacher.name)


def settle_teachers_input(input: InputOptions, source: Source, settled: Settled) -> InputOptions:
    """As the samples decide what is left to them; a dump that was begun has decided, so that none is looked at."""
    begun = next((each for each in settled.inputs if each.modality == input.modality), None)
    found: InputOptions = settle_input(input, source) if begun is None else as_settled(input, begun)
    return found


def how_seen(input: InputOptions, settled: Settled, like: Store | None) -> tuple[InputRecord, ...]:
    """How another teacher had these samples decoded, or a dump that was begun; an unfinished one may be told more."""
    if like is not None:
        return like.manifest.seen
    if not settled.is_unfinished:
        return settled.inputs
    return tuple(restate_input(each, input) if each.modality == input.modality else each for each in settled.inputs)


def plan_job(
    run: TeacherRun,
    teacher: Teacher,
    source: Source,
    out: Place,
    options: DumpOptions,
    *,
    augment: ViewOptions | None,
    like: Store | None,
    ranks: Ranks,
) -> DumpJob:
    """The teacher sees a few samples for it, because only its output tells classes and shapes. What hangs on the
    numbers of its output (K, the step of a coding) the first of several processes settles for all."""
    source = with_teachers_classes(source, teacher)
    views, settled = choose_views(out, options, augment, like=like), read_settled(out)
    theirs = plan_of_first(ranks)
    settled = settled if theirs is None else settled_by(theirs)
    teacher = replace(teacher, input=settle_teachers_input(teacher.input, source, settled))
    check_seen_before(source, teacher.input, views)
    seen = how_seen(teacher.input, settled, like) or teacher.seen
    replay = modality_of(teacher.input).replay(views.record, num_samples=len(source), recipe_N=views.recipe_N)
    aligned = Aligned(source=source, inputs=(teacher.input,), replay=replay, seen=seen)
    start = time.perf_counter()
    example = example_of(run, aligned, options, settled)
    output, most_rows = example.output, MAX_SHARD_ROWS
    if options.shard_rows is None and settled.shard_rows is None:
        pace = Pace(run=run, aligned=aligned, options=options)
        most_rows = pace.most_rows(seen_s=time.perf_counter() - start)
    counted = UNCOUNTED if settled.shard_units else count_units(output, aligned, options)
    plan = make_plan(
        teacher,
        source,
        options,
        views,
        example=output,
        weights=_fingerprint(teacher, example, options, settled, tell=ranks.is_first),
        settled=settled,
        seen=seen,
        counted=counted,
        most_rows=most_rows,
    )
    agree_on(plan, theirs, ranks)
    predict = partial(first_classes, run=run, aligned=aligned, options=options)
    of_other_classes = find_other_classes(predict, source, plan, options) if ranks.is_first else frozenset()
    if views.parent is not None and find_finished(out, plan) is None:
        check_addition(open_store(out), plan)
    return DumpJob(
        out=out,
        plan=plan,
        teacher=teacher,
        source=source,
        options=options,
        recipe_N=views.recipe_N,
        expected_hashes=views.expected_hashes,
        of_other_classes=frozenset(ranks.share(" ".join(sorted(of_other_classes))).split()),
        first_view=open_store(out).num_views if views.parent is not None and not is_left_over(out) else 0,
    )


def _fingerprint(teacher: Teacher, example: Example, options: DumpOptions, settled: Settled, *, tell: bool) -> str:
    """Warns with UnseenWeights."""
    version, outside = options.teacher_version, example.outside
    if outside.is_unseen and version is None and tell:
        warnings.warn(
            f"{teacher.name}: computes with numbers that aren't in its module, so that it is known by what it gives "
            f"for two samples of this data set. Say which version it is with `dump.teacher_version`: then its stores "
            f"of other data, as for validation, are known to be of the same teacher",
            UnseenWeights,
            stacklevel=4,
        )
    return teacher_fingerprint(teacher.module, outside, version=version, settled=settled.weights)
