"""A dump as a job: what is to be done, and a way to do any one shard of it, in any process and in any order.

    job = plan_dump(teacher, source, out)     # a few samples are run; the plan is written to OUT/commits
    job.run_shard(3)                          # any shard, anywhere; a second time it says that it is there already
    finalize(out)                             # once all shards are there: the manifest, written last

A job can be pickled and sent to workers. Workers need nothing of each other: each shard is computed from batches of its
own samples alone, and its record is created exclusively.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlab.amounts import format_count
from softlab.errors import InvalidOption
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import RecipeIndex
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.loading.sample_check import check_contents, comparable_targets
from softlab.manifest import Manifest, StorePlan, TokensRecord
from softlab.modalities.modality import modality_of
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.sources.source import Source, hard_targets
from softlab.store.access import finishing, joining, settle_plan
from softlab.store.folder import find_finished
from softlab.store.manifest_file import read_manifest
from softlab.store.place import place_of
from softlab.store.reader import open_store
from softlab.store.revision import Stays
from softlab.store.samples import SampleTable
from softlab.store.stored_shards import ends_of_dump, ends_of_store
from softlab.store.writer import StoreWriter
from softlab.teacher.commit import ShardOutput, Targets, commit_shard
from softlab.teacher.forward import OutputOnHost, Run, Teacher, TeacherRun
from softlab.teacher.minima import Minima
from softlab.teacher.options import DumpOptions
from softlab.teacher.overflow import run_batches, tell_redone
from softlab.teacher.revising import find_staying
from softlab.teacher.same_teacher import check_same_teacher
from softlab.teacher.selections import Selections, selections_of

ShardState = Literal["written", "already there"]

Counted = TypeVar("Counted", int, TokensRecord)

OnBatch = Callable[[int], None]
"""Called with the number of samples that were computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpJob:
    """A dump that was planned, for any processes to do its shards; made by `plan_dump`."""

    out: Place
    plan: StorePlan
    teacher: Teacher
    source: Source
    options: DumpOptions
    recipe_N: RecipeIndex | None = field(default=None, repr=False)
    """Of each sample, where it is not its index in the source."""

    expected_hashes: Sequence[bytes] | None = field(default=None, repr=False)
    """Of all samples, where another teacher's store tells what they must be."""

    of_other_classes: frozenset[str] = frozenset()
    """The outputs whose classes hard targets don't count, by what the teacher says of some samples."""

    first_view: int = 0
    """The views before it are there already: those of a finished store that this dump adds views to."""

    def __repr__(self) -> str:
        shards = format_count(self.num_shards, "shard")
        return f"DumpJob({self.out}, {shards}, {self.teacher.name} on {self.source.name})"

    @property
    def num_shards(self) -> int:
        """As `len(job.shards)`, without making them."""
        return (self.plan.grid.num_views - self.first_view) * self.plan.grid.parts_per_view

    @property
    def shards(self) -> list[Shard]:
        """What this dump writes, in the order of the grid; `run_shard` counts them from 0."""
        return [self.shard(number) for number in range(self.num_shards)]

    def shard(self, number: int) -> Shard:
        """One of them. Raises InvalidOption for a number that no shard has."""
        if not 0 <= number < self.num_shards:
            raise InvalidOption(
                f"{self.out}: has shards 0 to {self.num_shards - 1}, not {number}. Ask for one of those."
            )
        view, part = divmod(number, self.plan.grid.parts_per_view)
        return self.plan.grid.shard(self.first_view + view, part)

    def run_shard(self, number: int) -> ShardState:
        """Compute and commit one shard, or find that it is there already. Any number of processes may do this at a
        time, also twice for the same shard: equal files are no error. Raises InvalidOption for a number that no shard
        has, StoreBusy where a second commit of a shard has other files, StoreMismatch where the teacher isn't that of
        the shards which are there, and as `dump_teacher`."""
        shard = self.shard(number)
        if find_finished(self.out, self.plan) is not None:
            return "already there"
        settle_plan(self.out, self.plan, expected=self.expected_samples)
        with joining(self.out, self.plan, recipe_N=self.recipe_N, part=shard.part) as writer:
            if writer.is_written(shard):
                return "already there"
            with self.teacher.start(self.options) as run:
                self.check_teacher(run, writer)
                (output,) = compute(run, self.aligned(), self.selections(), [shard], self.options)
            written = commit_shard(output, writer=writer, source=self.source, targets=self.targets())
            minima = Minima()
            minima.look_at(output, self.source)
            minima.tell()
            if output.num_redone:
                tell_redone(output.num_redone, self.options)
            return "written" if written else "already there"

    def check_contents(self, writer: StoreWriter) -> None:
        """Read some of the samples anew that this dump knows already. Raises StoreMismatch for one that has changed."""
        step = "Restore the data, or choose another `out`."
        check_contents(self.source, writer.known_hashes(), where=str(self.out), next_step=step)

    def find_staying(self, begun: StorePlan) -> Stays | None:
        """What of an unfinished dump that was begun with another plan stays."""
        assert isinstance(self.out, Path), "nothing is revised where it can't be locked"
        return find_staying(begun, self.plan, self.source, self.out)

    def check_teacher(self, run: Run, writer: StoreWriter | None) -> None:
        """Compare what the teacher gives for two samples with what is stored, as far as something is; without a writer
        with the finished store. Predictions in a file are known by its hash. Raises StoreMismatch, and warns, as
        `check_same_teacher`."""
        if not isinstance(run, TeacherRun):
            return
        stored = [] if writer is None else ends_of_dump(writer)
        if writer is None or writer.parent is not None:
            before = ends_of_store(open_store(self.out))
            stored = [before[0], (stored or before)[-1]]
        check_same_teacher(run, self.aligned(), stored, where=self.out)

    def expected_samples(self) -> SampleTable:
        """Keys and targets; content hashes only where another teacher's store tells what they must be."""
        unknown = ContentHashes.from_bytes(bytes(CONTENT_HASH_BYTES * len(self.source)))
        return SampleTable(
            keys=self.source.keys,
            targets_N=hard_targets(self.source),
            content_hashes=unknown if self.expected_hashes is None else self.expected_hashes,
            recipe_N=self.recipe_N,
        )

    def aligned(self) -> Aligned:
        """The source as the teacher sees it."""
        views = self.plan.views
        replay = modality_of(self.teacher.input).replay(views, num_samples=len(self.source), recipe_N=self.recipe_N)
        return Aligned(
            source=self.source,
            inputs=self.teacher.inputs,
            replay=replay,
            digest_every=views.digest_every,
            seen=self.plan.inputs,
        )

    def selections(self) -> Selections:
        """What is kept of each output."""
        return selections_of(self.plan, recipe_N=self.recipe_N)

    def targets(self) -> Targets:
        """What the teacher's accuracy is measured on."""
        is_mixed = self.plan.views.mixing is not None  # the teacher can't be right or wrong about a mixture
        found: dict[str, NDArray[np.int64] | None] = {}
        for output in self.plan.classes:
            num_classes = output.label_space.num_classes
            is_known = not (is_mixed or output.units or output.name in self.of_other_classes)
            found[output.name] = comparable_targets(self.source, num_classes=num_classes) if is_known else None
        return found


def compute(
    run: Run,
    aligned: Aligned,
    selections: Selections,
    shards: Sequence[Shard],
    options: DumpOptions,
    *,
    on_batch: OnBatch | None = None,
) -> Iterator[ShardOutput]:
    """The teacher's output for each shard; copies to the host are under way. Batches never cross shards: a shard that
    is redone after a crash is computed from the same batches, to the same bits."""
    for shard, batches in _by_shard(run, aligned, shards, options):
        outputs: list[OutputOnHost] = []
        hashes: list[bytes] = []
        digests: list[int] = []
        cut_off: int | None = None
        tokens: TokensRecord | None = None
        for batch, output in run_batches(run, batches, selections=selections):
            outputs.append(output)
            hashes += batch.content_hashes
            digests += batch.view_digests
            for each in batch.inputs:
                cut_off, tokens = _added(cut_off, each.cut_off), _added(tokens, each.tokens)
            if on_batch is not None:
                on_batch(len(batch))
        yield ShardOutput(
            shard=shard,
            batches=outputs,
            content_hashes=hashes,
            view_digests=digests,
            cut_off=cut_off,
            tokens=tokens,
        )


def _added(total: Counted | None, found: Counted | None) -> Counted | None:
    """Their sum; None where neither is known."""
    if total is None or found is None:
        return found if total is None else total
    return total + found


def finalize(out: str | Path) -> Manifest:
    """The finished store's manifest, written last, once all shards are there; of a finished store its own.

    Raises UnfinishedStore where shards are missing, DamagedStore where a file is not what was written (its shard is
    then redone), NotAStore where no dump was begun."""
    place = place_of(out)
    with finishing(place) as writer:
        if writer is None:
            return read_manifest(place)[0]
        return writer.finish()


def _by_shard(
    run: Run, aligned: Aligned, shards: Sequence[Shard], options: DumpOptions
) -> Iterator[tuple[Shard, Iterator[Batch]]]:
    size = options.batch_size
    order = (
        rows for shard in shards for rows in in_sequence(shard.start, shard.stop, batch_size=size, view=shard.view)
    )
    several_views = len({shard.view for shard in shards}) > 1
    loader = BatchLoader(
        aligned, device=run.device, options=LoaderOptions(workers=options.device.workers), keep_decoded=several_views
    )
    with closing(loader.load(order)) as batches:
        for shard in shards:
            yield shard, islice(batches, -(-shard.num_rows // size))
