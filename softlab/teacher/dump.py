"""Run a teacher over a source once, and write its outputs; go on where an earlier run stopped."""

import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from softlab.amounts import format_count, format_duration
from softlab.errors import DamagedStore, GoesOnDifferently, InvalidOption, StoreExists
from softlab.loading.content_check import duplicates_note, warn_of_content
from softlab.loading.label_check import stored_label_note, warn_of_labels
from softlab.loading.sample_check import align
from softlab.manifest import Manifest, TokensRecord, samples_by_precision
from softlab.modalities.views import ViewOptions
from softlab.models.tensor_parallel import as_one_teacher
from softlab.ranks import Ranks, is_launched, join_ranks
from softlab.remote.remote import Place
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.folder import count_finished_shards, find_finished
from softlab.store.manifest_file import read_manifest
from softlab.store.place import place_of
from softlab.store.reader import Store, open_store
from softlab.store.workers import at_work
from softlab.store.writer import StoreWriter
from softlab.teacher.commit import BackgroundCommits, ShardOutput, commit_shard
from softlab.teacher.compute import compute
from softlab.teacher.dump_progress import DumpProgress, OnProgress
from softlab.teacher.engines.engine import Engine, finish_with
from softlab.teacher.engines.ray import RayEngine
from softlab.teacher.forward import Run, Teacher, TeacherRun
from softlab.teacher.job import DumpJob
from softlab.teacher.minima import Minima
from softlab.teacher.options import DumpOptions
from softlab.teacher.overflow import tell_redone
from softlab.teacher.planning import named_teacher, options_for, plan_job
from softlab.teacher.shared_dump import own_shards, tell_damaged, writing_together


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpSummary:
    """A finished dump."""

    out: Place
    manifest: Manifest
    digest: str
    rows_computed: int
    """By this run; the others were there already."""

    seconds: float
    """Of this run, from the first batch to the finished store."""

    def __repr__(self) -> str:
        computed = f"{self.rows_computed:,} computed in {format_duration(self.seconds)}"
        rows = f"{self.manifest.num_rows:,} rows of {self.bytes_per_row:.1f} bytes"
        return f"DumpSummary({self.out}, {rows}, {computed}, digest {self.digest[:12]})"

    @property
    def label_bytes_per_row(self) -> float:
        return self.manifest.bytes_of(self.manifest.classes) / max(self.manifest.num_rows, 1)

    @property
    def bytes_per_row(self) -> float:
        """Everything that the manifest names."""
        return sum(file.bytes for file in self.manifest.files) / max(self.manifest.num_rows, 1)

    @property
    def rows_redone(self) -> int:
        """By this run and earlier ones: rows that overflowed in half precision and were run again in float32. The
        manifest says which, as `precisions` of its shards."""
        is_half = self.manifest.teacher.precision != "float32"
        return samples_by_precision(self.manifest).get("float32", 0) if is_half else 0

    @property
    def cut_off(self) -> int | None:
        """Samples, in all views, that were longer than the teacher's input, so that it didn't see all of them; None
        where samples have no length."""
        return self.manifest.cut_off

    @property
    def tokens(self) -> TokensRecord | None:
        """Tokens, in all views, that the teacher read, and those that were cut off; None where samples have none."""
        return self.manifest.tokens

    @property
    def rows_per_second(self) -> float | None:
        return self.rows_computed / self.seconds if self.rows_computed else None


def dump_teacher(
    teacher: Teacher | nn.Module,
    source: Source,
    out: str | Path,
    options: DumpOptions | None = None,
    *,
    augment: ViewOptions | None = None,
    like: Store | None = None,
    on_progress: OnProgress | None = None,
) -> DumpSummary:
    """A finished store at `out` with the teacher's output for every view of every sample of the source.

        source = softlab.open_source("pets/train")
        softlab.dump_teacher(model, source, "runs/pets.zarr", softlab.DumpOptions(k=16))

    An interrupted dump goes on when the same call is made again; a finished one returns at once. The store's bytes do
    not depend on where it was interrupted. A bare module is run with the default input of images; without `augment`
    samples are shown as they are. With `like`, the teacher sees the samples and views that another one saw for that
    store, so that both can teach together; they are compared as they are read.

    Processes that torchrun started share the work: each makes this call, runs its own copy of the teacher and writes
    shards of its own, and the bytes are those of one process. All return the same summary.

    Raises StoreExists, StoreBusy, StoreWriteFailed, StoreMismatch (an unfinished dump of something else, views to be
    added to another teacher's store, a teacher that no longer gives what is stored, other samples than those of `like`,
    processes that would dump different things),
    TeacherError (values that are not finite, an output that looks like no classes), InvalidOption (k over the number
    of classes, views given twice), UnreadableSample. Warns with OddLabels where the source's hard targets contradict
    the teacher, count other classes, or are aligned with the teacher's by name, and with OddSource where samples are
    there twice.

    On Ctrl-C shards that were computed are still written, and
    KeyboardInterrupt says how to go on."""
    place, options = place_of(out), options or DumpOptions()
    _check_devices(options)
    engine = RayEngine(options) if options.engine == "ray" else None
    teacher = named_teacher(teacher)
    options = options_for(teacher, options)
    with TeacherRun(teacher, options) as run, as_one_teacher(run.module, options.tensor_parallel, run.device) as leads:
        if not leads:
            return _summary(place, rows_computed=0, seconds=0.0)
        ranks = join_ranks("dump", run.device, group=options.tensor_parallel)
        job = plan_job(run, teacher, source, place, options, augment=augment, like=like, ranks=ranks)
        if engine is None or _is_finished(job, ranks):
            return carry_out(job, run, ranks, on_progress=on_progress)
    return _carry_out_with(engine, job, on_progress=on_progress)


def carry_out(job: DumpJob, run: Run, ranks: Ranks, *, on_progress: OnProgress | None) -> DumpSummary:
    """All that is left of a dump that was planned; raises and warns as `dump_teacher`."""
    if _is_finished(job, ranks):
        return _found(job, run, ranks)
    try:
        return _compute(job, run, ranks, on_progress=on_progress)
    except StoreExists:
        if ranks.count > 1 or not _is_finished(job, ranks):
            raise
        return _found(job, run, ranks)  # another process has finished it meanwhile, where nothing is locked


def _found(job: DumpJob, run: Run, ranks: Ranks) -> DumpSummary:
    """Of a store that is finished."""
    align(job.source, open_store(job.out))  # it may be other data by now, or another teacher
    job.check_teacher(run, None)
    summary = _summary(job.out, rows_computed=0, seconds=0.0)
    if ranks.is_first:
        _tell_precision(summary, asked=job.plan.teacher.precision)
    return summary


def _compute(job: DumpJob, run: Run, ranks: Ranks, *, on_progress: OnProgress | None) -> DumpSummary:
    out = job.out
    with writing_together(job, ranks) as writer:
        job.check_contents(writer)
        job.check_teacher(run, writer)
        start = time.perf_counter()
        rows = sum(shard.num_rows for shard in writer.pending)
        try:
            _dump_pending(run, writer, job, ranks, on_progress=on_progress)
            if not _finish(writer, job, ranks, redoes=True):
                rows += sum(shard.num_rows for shard in writer.pending)
                _dump_pending(run, writer, job, ranks, on_progress=on_progress)
                _finish(writer, job, ranks, redoes=False)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                _how_to_resume(out, num_shards=len(writer.own_shards)) if ranks.is_first else ""
            ) from None
    ranks.wait()  # until the first one has tidied up: another dump may follow at once
    if ranks.is_first:
        look_at_samples(job, open_store(out, cache=CacheOptions(max_bytes=0)))
    summary = _summary(out, rows_computed=rows, seconds=time.perf_counter() - start)
    if ranks.is_first and summary.rows_redone:
        tell_redone(summary.rows_redone, job.options)
    return summary


def _carry_out_with(engine: Engine, job: DumpJob, *, on_progress: OnProgress | None) -> DumpSummary:
    """The same, by the workers of an engine."""
    total, started = job.plan.source.num_samples * (job.plan.grid.num_views - job.first_view), [time.perf_counter()]

    def on_rows(rows: int, workers: int) -> None:
        if workers and len(started) == 1:
            started.append(time.perf_counter())  # a cluster may take minutes to have room
        if on_progress is not None:
            on_progress(DumpProgress(rows=rows, total_rows=total, bytes_written=0, num_workers=workers))

    try:
        rows = finish_with(engine, job, on_rows=on_rows)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_resume(job.out, num_shards=job.num_shards)) from None
    look_at_samples(job, open_store(job.out, cache=CacheOptions(max_bytes=0)))
    summary = _summary(job.out, rows_computed=rows, seconds=time.perf_counter() - started[-1])
    if summary.rows_redone:
        tell_redone(summary.rows_redone, job.options)
    return summary


def _check_devices(options: DumpOptions) -> None:
    if options.engine != "here" and is_launched():
        raise InvalidOption(
            f"dump.engine = {options.engine} under torchrun: each of its processes would have workers of its own. Run "
            f"the command without torchrun."
        )
    if options.engine == "here" and options.num_devices != 1 and not is_launched():
        raise InvalidOption(
            f"dump.devices = {options.devices}: this call is one process. Start several with torchrun, or let `softlab "
            f"dump-teacher --devices {options.devices}` do so."
        )


def _is_finished(job: DumpJob, ranks: Ranks) -> bool:
    """Whether this very dump is; one process looks, as it also tidies up."""
    finds = ranks.is_first and find_finished(job.out, job.plan) is not None
    return ranks.share("finished" if finds else "") == "finished"


def _dump_pending(
    run: Run,
    writer: StoreWriter,
    job: DumpJob,
    ranks: Ranks,
    *,
    on_progress: OnProgress | None,
) -> None:
    targets, pending, minima = job.targets(), writer.pending, Minima()
    total = sum(shard.num_rows for shard in writer.own_shards)
    earlier = total - sum(shard.num_rows for shard in pending)
    counter = f"rows after {earlier}"  # none of those that were computed before and have to be computed again

    def commit(output: ShardOutput) -> None:
        ranks.add("bytes", commit_shard(output, writer=writer, source=job.source, targets=targets))
        minima.look_at(output, job.source)
        on_shard(output.shard.num_rows)

    def on_batch(count: int) -> None:
        rows = earlier + ranks.add(counter, count)
        if on_progress is not None:
            on_progress(DumpProgress(rows=rows, total_rows=total, bytes_written=ranks.add("bytes", 0)))

    with at_work(job.out) as on_shard, BackgroundCommits(commit) as commits:
        shards, selections = own_shards(pending, ranks), job.selections()
        for output in compute(run, job.aligned(), selections, shards, options=job.options, on_batch=on_batch):
            commits.put(output)
    minima.tell()


def _finish(writer: StoreWriter, job: DumpJob, ranks: Ranks, *, redoes: bool) -> bool:
    """The manifest, once all have written their shards; all return when it is there. With `redoes` False where shards
    turned out not to be what was written: they are pending again, for all."""
    ranks.wait()
    is_finished = ranks.is_first and _finalize(writer, job, reread=ranks.count > 1, redoes=redoes)
    is_finished = ranks.share("finished" if is_finished else "") == "finished"
    if not is_finished and not ranks.is_first:
        writer.reread()
    ranks.wait()
    return is_finished


def _finalize(writer: StoreWriter, job: DumpJob, *, reread: bool, redoes: bool) -> bool:
    if reread:
        writer.reread()
    try:
        writer.finish(job.expected_samples())
        return True
    except DamagedStore:
        writer.check_written(every_file=True)
        if not (redoes and writer.pending):
            raise
    tell_damaged(writer)
    return False


def look_at_samples(job: DumpJob, store: Store) -> None:
    """Warns with OddLabels and OddSource."""
    if not job.of_other_classes:  # that is told already
        warn_of_labels(stored_label_note(job.source, store, labels=job.options.labels))
    warn_of_content(duplicates_note(job.source, store))


def _tell_precision(summary: DumpSummary, *, asked: str) -> None:
    """Warns with GoesOnDifferently where a store that was finished before has another precision."""
    precision = summary.manifest.teacher.precision
    if precision != asked:
        redone = f", but for {format_count(summary.rows_redone, 'row')} that overflowed" if summary.rows_redone else ""
        warnings.warn(
            f"{summary.out}: is finished, so that nothing is left to do. Its teacher ran in {precision}{redone}, and "
            f"not in {asked}, as is asked for now. To have all rows in {asked}, choose another `out`",
            GoesOnDifferently,
            stacklevel=3,
        )


def _how_to_resume(out: Place, *, num_shards: int) -> str:
    return (
        f"{out}: stopped with {count_finished_shards(out):,} of {num_shards:,} shards finished. Run the same command "
        f"again to go on."
    )


def finished_summary(out: str | Place) -> DumpSummary:
    """Of a store that others have written. Raises NotAStore, UnfinishedStore."""
    return _summary(place_of(out), rows_computed=0, seconds=0.0)


def _summary(out: Place, *, rows_computed: int, seconds: float) -> DumpSummary:
    manifest, digest = read_manifest(out)
    return DumpSummary(out=out, manifest=manifest, digest=digest, rows_computed=rows_computed, seconds=seconds)
