"""One process's share of a dump that any others do the rest of, at the same time or later, on any machines."""

from functools import partial
from pathlib import Path

from torch import nn

from softlab.errors import InvalidOption, StoreMismatch
from softlab.modalities.views import ViewOptions
from softlab.ranks import Ranks, is_launched
from softlab.remote.remote import Place
from softlab.sources.source import Source
from softlab.store.access import settle_plan
from softlab.store.cache import CacheOptions
from softlab.store.dump_state import dump_state
from softlab.store.folder import count_finished_shards, find_finished, is_unfinished
from softlab.store.place import place_of
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import DumpSummary, finished_summary, look_at_samples
from softlab.teacher.dump_progress import OnProgress
from softlab.teacher.forward import Teacher, TeacherRun
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import named_teacher, options_for, plan_job
from softlab.teacher.shares import Share


def dump_share(
    teacher: Teacher | nn.Module,
    source: Source,
    out: str | Path,
    share: Share,
    options: DumpOptions | None = None,
    *,
    augment: ViewOptions | None = None,
    like: Store | None = None,
    on_progress: OnProgress | None = None,
) -> DumpJob:
    """Settles the plan of the dump if nobody has, and does the shards of a share that aren't there yet; the store isn't
    finished by it. Arguments and errors are those of `dump_teacher`, but that what another process has begun is never
    gone on with under another plan: that raises StoreMismatch."""
    place, options = place_of(out), options or DumpOptions()
    if options.num_devices != 1 or is_launched():
        raise InvalidOption(
            "a share is of one process on one device. Leave `dump.devices` and torchrun out, and start a process for "
            "each device, with `shards` or srun's `--ntasks-per-node`."
        )
    if options.adds_views:
        raise InvalidOption(
            f"dump.views = {options.views}: a process that comes late would add as many once more. Say how many there "
            f"are to be in all, as in `dump.views = 3`."
        )
    job = _plan_with_others(teacher, source, place, options, augment=augment, like=like)
    numbers = share.numbers(job.shards)
    try:
        job.run_shards(numbers, on_progress=on_progress, again=share.is_of_one_shard)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{out}: stopped with {count_finished_shards(place):,} of {job.num_shards:,} shards finished. Run the same "
            f"command again to go on."
        ) from None
    return job


def finish_if_complete(job: DumpJob) -> DumpSummary | None:
    """Finish a store that several tasks wrote, once all shards are there; None before. Any number of them may do so at
    once. Raises and warns as the end of `dump_teacher`."""
    if find_finished(job.out, job.plan) is None:
        if dump_state(job.out).missing:
            return None
        finalize(job.out)
        look_at_samples(job, open_store(job.out, cache=CacheOptions(max_bytes=0)))
    return finished_summary(job.out)


def _plan_with_others(
    teacher: Teacher | nn.Module,
    source: Source,
    out: Place,
    options: DumpOptions,
    *,
    augment: ViewOptions | None,
    like: Store | None,
) -> DumpJob:
    """Of several that begin at the same moment the first one to write its plan down settles it: the others plan again,
    by what it has settled (the rows of a shard by the teacher's pace, K, the steps of codings)."""
    teacher = named_teacher(teacher)
    options = options_for(teacher, options)
    was_begun = is_unfinished(out)
    with TeacherRun(teacher, options) as run:
        plan = partial(plan_job, run, teacher, source, out, options, augment=augment, like=like, ranks=Ranks())
        job = plan()
        try:
            _settle(job)
        except StoreMismatch:
            if was_begun:
                raise
            job = plan()
            _settle(job)
    return job


def _settle(job: DumpJob) -> None:
    if find_finished(job.out, job.plan) is None:
        settle_plan(job.out, job.plan, expected=job.expected_samples)
