"""Run a teacher over a source once, and write what it said; go on where an earlier run stopped."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from softlab.identity import digest_of
from softlab.loading.alignment import comparable_targets
from softlab.loading.batches import Aligned, Batch, BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.manifest import Manifest, StorePlan, encode
from softlab.shards import Shard
from softlab.sources.source import Source
from softlab.store.reader import coding_of, open_store
from softlab.store.samples import SampleTable
from softlab.store.writer import StoreWriter, find_finished, writing
from softlab.teacher.commit import BackgroundCommits, SaidShard, commit_shard
from softlab.teacher.contents import Contents
from softlab.teacher.extent import Extent, check_addition, settle_extent
from softlab.teacher.forward import SaidOnHost, Teacher, TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.record import choose_k, make_plan
from softlab.views.finishing import Finishing
from softlab.views.replay import Replay
from softlab.views.view_recipe import ViewRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpProgress:
    """How far a dump is."""

    rows: int
    """Computed by now, those of earlier runs included."""

    total_rows: int
    bytes_written: int
    """By this run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpSummary:
    """A finished dump."""

    out: Path
    manifest: Manifest
    digest: str
    rows_computed: int
    """By this run; the others were there already."""

    seconds: float
    """Of this run, from the first batch to the finished store."""

    @property
    def label_bytes_per_row(self) -> float:
        files = [file for file in self.manifest.files if file.path.startswith("labels/")]
        return sum(file.bytes for file in files) / self.manifest.statistics.rows

    @property
    def bytes_per_row(self) -> float:
        """Everything that the manifest names."""
        return sum(file.bytes for file in self.manifest.files) / self.manifest.statistics.rows

    @property
    def rows_per_second(self) -> float | None:
        return self.rows_computed / self.seconds if self.rows_computed else None


OnProgress = Callable[[DumpProgress], None]


def dump_teacher(
    teacher: Teacher | nn.Module,
    source: Source,
    out: str | Path,
    options: DumpOptions | None = None,
    *,
    augment: ViewRecipe | None = None,
    on_progress: OnProgress | None = None,
) -> DumpSummary:
    """A finished store at `out` with what the teacher says about every view of every sample of the source.

    An interrupted dump goes on when the same call is made again; a finished one returns at once. The store's bytes do
    not depend on where it was interrupted. A bare module is run with the default `Finishing`, images without `augment`
    are shown as they are.

    Raises StoreExists, StoreBusy, StoreWriteFailed, StoreMismatch (an unfinished dump of something else, or views to be
    added to another teacher's store), TeacherError (values that are not finite), InvalidOption (k over the number of
    classes), UnreadableSample. On Ctrl-C shards that were computed are still written, and KeyboardInterrupt says how to
    go on.
    """
    out, options = Path(out), options or DumpOptions()
    if isinstance(teacher, nn.Module):
        teacher = as_teacher(teacher)
    extent = settle_extent(out, options, augment)
    aligned = Aligned(
        source=source,
        finishing=teacher.finishing,
        replay=Replay(extent.views, num_samples=len(source)),
        digest_every=extent.views.digest_every,
    )
    contents = Contents(out, source)
    with TeacherRun(teacher, options) as run:
        plan = _settle(teacher, run, aligned, options, extent)
        finished = find_finished(out, plan)
        if finished is not None:
            contents.learn(0, open_store(out).read_samples().content_hashes)
            contents.check_some()
            return _summary(out, finished, rows_computed=0, seconds=0.0)
        if options.adds_views:
            check_addition(open_store(out), source, plan)
            contents.learn(0, open_store(out).read_samples().content_hashes)
            contents.check_some()  # before anything is written beside the finished store
        with writing(out, plan) as writer:
            for record in writer.finished:
                contents.learn(record.shard.start, writer.content_hashes(record))
            contents.check_some()
            start = time.perf_counter()
            rows = sum(shard.num_rows for shard in writer.pending)
            try:
                _dump_pending(run, writer, aligned, contents, options, on_progress=on_progress)
                table = SampleTable(keys=source.keys, targets_N=source.targets_N, content_hashes=contents.hashes())
                manifest = writer.finalize(table)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(_how_to_resume(writer)) from None
            return _summary(out, manifest, rows_computed=rows, seconds=time.perf_counter() - start)


def as_teacher(module: nn.Module, *, finishing: Finishing | None = None) -> Teacher:
    """A module of one's own, named by its class."""
    kind = type(module)
    name = f"{kind.__module__}:{kind.__qualname__}"
    return Teacher(module=module, name=name, arguments={}, finishing=finishing or Finishing())


def _settle(teacher: Teacher, run: TeacherRun, aligned: Aligned, options: DumpOptions, extent: Extent) -> StorePlan:
    """The plan; the teacher sees a few samples for it, because only its output tells classes and feature shapes.

    A compiled teacher sees a whole batch, so that it is compiled for that size.
    """
    count = min(options.batch_size if options.compile else 2, len(aligned.source))
    numbers = in_sequence(0, count, batch_size=count)
    batch = next(BatchLoader(aligned, device=run.device, options=LoaderOptions(workers=0)).load(numbers))
    logits_BC = run.logits(batch)
    k = choose_k(options, num_classes=logits_BC.shape[1])
    example = run.keep(logits_BC, k=k)
    return make_plan(teacher, aligned.source, options, extent.views, example=example, parent=extent.parent)


def _dump_pending(
    run: TeacherRun,
    writer: StoreWriter,
    aligned: Aligned,
    contents: Contents,
    options: DumpOptions,
    *,
    on_progress: OnProgress | None,
) -> None:
    plan, source = writer.plan, aligned.source
    coding = coding_of(plan)
    targets_N = None
    if not aligned.replay.mixes:  # the teacher can't be right or wrong about a mixture
        targets_N = comparable_targets(source, num_classes=plan.label_space.num_classes)
    pending = writer.pending
    total = sum(shard.num_rows for shard in writer.own_shards)
    rows, bytes_written = total - sum(shard.num_rows for shard in pending), 0

    def commit(said: SaidShard) -> None:
        nonlocal bytes_written
        bytes_written += commit_shard(said, writer=writer, coding=coding, source=source, targets_N=targets_N)

    with BackgroundCommits(commit) as commits:
        for shard, batches in _by_shard(run, aligned, pending, options):
            said: list[SaidOnHost] = []
            hashes: list[bytes] = []
            digests: list[int] = []
            for batch in batches:
                said.append(run.say(batch, k=plan.selection.k).start_to_host())
                hashes += batch.content_hashes
                digests += batch.pixel_digests
                rows += len(batch)
                if on_progress is not None:
                    on_progress(DumpProgress(rows=rows, total_rows=total, bytes_written=bytes_written))
            contents.learn(shard.start, hashes)
            commits.put(SaidShard(shard=shard, batches=said, content_hashes=hashes, pixel_digests=digests))


def _by_shard(
    run: TeacherRun, aligned: Aligned, shards: list[Shard], options: DumpOptions
) -> Iterator[tuple[Shard, Iterator[Batch]]]:
    """Batches never cross shards: a shard redone after a crash is computed from the same batches, to the same bits."""
    orders = [in_sequence(shard.start, shard.stop, batch_size=options.batch_size, view=shard.view) for shard in shards]
    several_views = len({shard.view for shard in shards}) > 1
    loader = BatchLoader(
        aligned, device=run.device, options=LoaderOptions(workers=options.workers), keep_decoded=several_views
    )
    batches = loader.load([rows for order in orders for rows in order])
    for shard, order in zip(shards, orders, strict=True):
        yield shard, (next(batches) for _ in order)


def _how_to_resume(writer: StoreWriter) -> str:
    return (
        f"{writer.root}: stopped with {len(writer.finished):,} of {len(writer.own_shards):,} shards finished. "
        f"Run the same command again to go on."
    )


def _summary(out: Path, manifest: Manifest, *, rows_computed: int, seconds: float) -> DumpSummary:
    return DumpSummary(
        out=out,
        manifest=manifest,
        digest=digest_of(encode(manifest)),
        rows_computed=rows_computed,
        seconds=seconds,
    )
