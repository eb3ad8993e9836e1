"""Run a teacher over a source once, and write its outputs; go on where an earlier run stopped."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from torch import nn

from softlab.errors import InvalidOption
from softlab.loading.aligned import Aligned
from softlab.loading.alignment import comparable_targets
from softlab.loading.batch import Batch
from softlab.loading.batches import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence, spread_out
from softlab.manifest import Manifest, StorePlan
from softlab.modalities.modality import InputOptions, default_input, modality_of
from softlab.modalities.views import ViewOptions
from softlab.ranks import is_launched
from softlab.shards import Shard
from softlab.sources.source import Source, hard_targets
from softlab.store.folder import count_finished_shards, find_finished
from softlab.store.manifest_file import read_manifest
from softlab.store.reader import Store, coding_of, open_store
from softlab.store.samples import SampleTable
from softlab.store.writer import StoreWriter
from softlab.teacher.commit import BackgroundCommits, ShardOutput, commit_shard
from softlab.teacher.contents import Contents
from softlab.teacher.extent import Extent, check_addition, check_like, settle_extent, settled_gap_step
from softlab.teacher.forward import OutputOnHost, Teacher, TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.peers import Peers, agree_on, meet_peers, writing_together
from softlab.teacher.record import choose_k, make_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpProgress:
    """How far a dump is; of several processes, all together."""

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
        groups = tuple(f"{self.manifest.group_of(output)}/" for output in self.manifest.classes)
        files = [file for file in self.manifest.files if file.path.startswith(groups)]
        return sum(file.bytes for file in files) / self.manifest.num_rows

    @property
    def bytes_per_row(self) -> float:
        """Everything that the manifest names."""
        return sum(file.bytes for file in self.manifest.files) / self.manifest.num_rows

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
    augment: ViewOptions | None = None,
    like: Store | None = None,
    on_progress: OnProgress | None = None,
) -> DumpSummary:
    """A finished store at `out` with the teacher's output for every view of every sample of the source.

    An interrupted dump goes on when the same call is made again; a finished one returns at once. The store's bytes do
    not depend on where it was interrupted. A bare module is run with the default input of images; without `augment`
    samples are shown as they are. With `like`, the teacher sees the samples and views that another one saw for that
    store, so that both can teach together; they are compared as they are read.

    Processes that torchrun started share the work: each makes this call, runs its own copy of the teacher and writes
    shards of its own, and the bytes are those of one process. All return the same summary.

    Raises StoreExists, StoreBusy, StoreWriteFailed, StoreMismatch (an unfinished dump of something else, views to be
    added to another teacher's store, other samples than those of `like`, processes that would dump different things),
    TeacherError (values that are not finite), InvalidOption (k over the number of classes, views said twice),
    UnreadableSample. On Ctrl-C shards that were computed are still written, and KeyboardInterrupt says how to go on.
    """
    out, options = Path(out), options or DumpOptions()
    _check_devices(options)
    if isinstance(teacher, nn.Module):
        teacher = as_teacher(teacher)
    modality = modality_of(teacher.input)
    extent = settle_extent(out, options, augment, like=like)
    if like is not None:
        check_like(like, source, modality)
    aligned = Aligned(
        source=source,
        inputs=(teacher.input,),
        replay=modality.replay(extent.views, num_samples=len(source), recipe_N=extent.recipe_N),
        digest_every=extent.views.digest_every,
    )
    contents = Contents(out, source, like=like)
    with TeacherRun(teacher, options) as run:
        peers = meet_peers(run.device)
        plan = agree_on(_settle(out, teacher, run, aligned, options, extent), peers)
        if _is_finished(out, plan, peers):
            _learn_stored(contents, out)
            return _summary(out, rows_computed=0, seconds=0.0)
        if options.adds_views:
            check_addition(open_store(out), source, plan, modality)
            _learn_stored(contents, out)  # before anything is written beside the finished store
        with writing_together(out, plan, peers, recipe_N=extent.recipe_N) as writer:
            _learn_committed(contents, writer)
            contents.check_some()
            start = time.perf_counter()
            rows = sum(shard.num_rows for shard in writer.pending)
            try:
                _dump_pending(run, writer, aligned, contents, options, peers, on_progress=on_progress)
                _finish(writer, contents, source, extent, peers)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(_how_to_resume(writer) if peers.is_first else "") from None
        peers.wait()  # until the first one has tidied up: another dump may follow at once
        return _summary(out, rows_computed=rows, seconds=time.perf_counter() - start)


def as_teacher(module: nn.Module, *, input: InputOptions | None = None) -> Teacher:
    """A module of one's own, named by its class."""
    kind = type(module)
    name = f"{kind.__module__}:{kind.__qualname__}"
    return Teacher(module=module, name=name, arguments={}, input=input or default_input())


def _check_devices(options: DumpOptions) -> None:
    if options.num_devices != 1 and not is_launched():
        raise InvalidOption(
            f"devices = {options.devices}: this call is one process. Start several with torchrun, or let `softlab "
            f"dump-teacher --devices {options.devices}` do so."
        )


def _settle(
    out: Path, teacher: Teacher, run: TeacherRun, aligned: Aligned, options: DumpOptions, extent: Extent
) -> StorePlan:
    """The plan; the teacher sees a few samples for it, because only its output tells classes and feature shapes.

    A compiled teacher sees a whole batch, so that it is compiled for that size; so does one whose logits are to tell
    the step of their coding. Where such a dump was begun, or is finished, its step stands.
    """
    gap_step = settled_gap_step(out)
    needs_rows = options.coding == "uint8" and options.gap_step is None and gap_step is None
    count = min(options.batch_size if options.compile or needs_rows else 2, len(aligned.source))
    order = in_sequence(0, count, batch_size=count)
    if needs_rows:
        order = [spread_out(len(aligned.source), count=count)]
    batch = next(BatchLoader(aligned, device=run.device, options=LoaderOptions(workers=0)).load(order))
    logits_BC = run.logits(batch)
    k = choose_k(options, num_classes=logits_BC.shape[1])
    example = run.keep(logits_BC, k=k)
    return make_plan(
        teacher,
        aligned.source,
        options,
        extent.views,
        example=example,
        gap_step=gap_step,
        parent=extent.parent,
        chosen_from=extent.chosen_from,
    )


def _is_finished(out: Path, plan: StorePlan, peers: Peers) -> bool:
    """Whether this very dump is; one process looks, as it also tidies up."""
    finds = peers.is_first and find_finished(out, plan) is not None
    return peers.share("finished" if finds else "") == "finished"


def _dump_pending(
    run: TeacherRun,
    writer: StoreWriter,
    aligned: Aligned,
    contents: Contents,
    options: DumpOptions,
    peers: Peers,
    *,
    on_progress: OnProgress | None,
) -> None:
    plan, source = writer.plan, aligned.source
    coding = coding_of(plan.classes[0])
    targets_N = None
    if not aligned.replay.mixes:  # the teacher can't be right or wrong about a mixture
        targets_N = comparable_targets(source, num_classes=plan.classes[0].label_space.num_classes)
    pending = writer.pending
    total = sum(shard.num_rows for shard in writer.own_shards)
    earlier = total - sum(shard.num_rows for shard in pending)

    def commit(output: ShardOutput) -> None:
        peers.add("bytes", commit_shard(output, writer=writer, coding=coding, source=source, targets_N=targets_N))

    with BackgroundCommits(commit) as commits:
        for shard, batches in _by_shard(run, aligned, peers.own(pending), options):
            outputs: list[OutputOnHost] = []
            hashes: list[bytes] = []
            digests: list[int] = []
            for batch in batches:
                outputs.append(run.run(batch, k=plan.classes[0].selection.k).start_to_host())
                hashes += batch.content_hashes
                digests += batch.view_digests
                rows = earlier + peers.add("rows", len(batch))
                if on_progress is not None:
                    on_progress(DumpProgress(rows=rows, total_rows=total, bytes_written=peers.add("bytes", 0)))
            contents.learn(shard.start, hashes)
            commits.put(ShardOutput(shard=shard, batches=outputs, content_hashes=hashes, view_digests=digests))


def _by_shard(
    run: TeacherRun, aligned: Aligned, shards: list[Shard], options: DumpOptions
) -> Iterator[tuple[Shard, Iterator[Batch]]]:
    """Batches never cross shards: a shard redone after a crash is computed from the same batches, to the same bits."""
    size = options.batch_size
    order = (
        rows for shard in shards for rows in in_sequence(shard.start, shard.stop, batch_size=size, view=shard.view)
    )
    several_views = len({shard.view for shard in shards}) > 1
    loader = BatchLoader(
        aligned, device=run.device, options=LoaderOptions(workers=options.workers), keep_decoded=several_views
    )
    batches = loader.load(order)
    for shard in shards:
        yield shard, islice(batches, -(-shard.num_rows // size))


def _finish(writer: StoreWriter, contents: Contents, source: Source, extent: Extent, peers: Peers) -> None:
    """The manifest, once all have written their shards; all return when it is there."""
    peers.wait()
    if peers.is_first:
        if peers.count > 1:
            writer.reread()
            _learn_committed(contents, writer)
        writer.finalize(
            SampleTable(
                keys=source.keys,
                targets_N=hard_targets(source),
                content_hashes=contents.hashes(),
                recipe_N=extent.recipe_N,
            )
        )
    peers.wait()


def _learn_stored(contents: Contents, out: Path) -> None:
    contents.learn(0, open_store(out).read_samples().content_hashes)
    contents.check_some()


def _learn_committed(contents: Contents, writer: StoreWriter) -> None:
    for record in writer.finished:
        contents.learn(record.shard.start, writer.content_hashes(record))


def _how_to_resume(writer: StoreWriter) -> str:
    return (
        f"{writer.root}: stopped with {count_finished_shards(writer.root):,} of {len(writer.own_shards):,} shards "
        f"finished. Run the same command again to go on."
    )


def _summary(out: Path, *, rows_computed: int, seconds: float) -> DumpSummary:
    manifest, digest = read_manifest(out)
    return DumpSummary(out=out, manifest=manifest, digest=digest, rows_computed=rows_computed, seconds=seconds)
