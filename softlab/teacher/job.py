"""A dump as a job: what is to be done, and a way to do any one shard of it, in any process and in any order.

    job = plan_dump(teacher, source, out)     # a few samples are run; the plan is written to OUT/commits
    job.run_shard(3)                          # any shard, anywhere; a second time it says that it is there already
    finalize(out)                             # once all shards are there: the manifest, written last

A job can be pickled and sent to workers. Workers need nothing of each other: each shard is computed from batches of its
own samples alone, and its record is created exclusively.
"""

import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softlab.amounts import format_count
from softlab.errors import InvalidOption, OtherNumerics, StoreBusy, StoreExists, UnfinishedStore
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import RecipeIndex
from softlab.loading.aligned import Aligned
from softlab.loading.sample_check import check_known_contents, comparable_targets
from softlab.manifest import Manifest, StorePlan
from softlab.modalities.modality import modality_of
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.sources.source import Source, hard_targets
from softlab.store.access import finishing, joining, settle_plan
from softlab.store.attempts import MOST_ATTEMPTS, count_attempts, find_failed, tell_set_aside
from softlab.store.dump_state import dump_state
from softlab.store.folder import find_finished, is_unfinished
from softlab.store.manifest_file import read_manifest
from softlab.store.place import place_of
from softlab.store.reader import open_store
from softlab.store.revision import Stays
from softlab.store.samples import SampleTable
from softlab.store.stored_shards import ends_of_dump, ends_of_store
from softlab.store.workers import OnShard, at_work
from softlab.store.writer import StoreWriter
from softlab.teacher.commit import ShardOutput, Targets, commit_shard
from softlab.teacher.compute import compute
from softlab.teacher.dump_progress import DumpProgress, OnProgress
from softlab.teacher.forward import Run, Teacher, TeacherRun
from softlab.teacher.minima import Minima
from softlab.teacher.options import DumpOptions
from softlab.teacher.overflow import tell_redone
from softlab.teacher.revising import find_staying
from softlab.teacher.same_teacher import check_same_teacher
from softlab.teacher.selections import Selections, selections_of
from softlab.teacher.several_shards import do_shards

ShardState = Literal["written", "already there"]


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
        with self.joined(part=shard.part) as writer:
            if writer is None or writer.is_written(shard):
                return "already there"
            with self.teacher.start(self.options) as run:
                self.check_teacher(run, writer)
                (output,) = compute(run, self.aligned(), self.selections(), [shard], options=self.options)
            return "written" if self.commit_alone(output, writer, self.targets()) else "already there"

    def run_shards(self, numbers: Iterable[int], *, on_progress: OnProgress | None = None, again: bool = False) -> None:
        """Compute and commit those of some shards that aren't there yet, with one teacher in memory; the store isn't
        finished by it. Any number of processes may do this at a time. On Ctrl-C shards that were computed are still
        written.

        A shard that has failed 3 times, in this process or others, is set aside: the others are done, then
        UnfinishedStore is raised with its error. With `again` one that was set aside before is tried once more. Raises
        as `run_shard` what is none of a shard's (a full disk, a teacher that isn't that of the shards which are
        there), and StoreBusy while another process writes the store alone."""
        shards = [self.shard(number) for number in sorted(set(numbers))]
        with self.joined() as writer:
            if writer is None:
                return
            left = [shard for shard in shards if not writer.is_written(shard)]
            attempts = count_attempts(self.out)
            tried = left if again else [shard for shard in left if attempts[shard.name] < MOST_ATTEMPTS]
            if tried:
                with self.teacher.start(self.options) as run, at_work(self.out) as on_shard:
                    self.check_teacher(run, writer)
                    done = sum(shard.num_rows for shard in shards) - sum(shard.num_rows for shard in tried)
                    self._do(run, writer, tried, done=done, on_shard=on_shard, on_progress=on_progress)
            self._tell_set_aside(writer, {shard.name for shard in left if not writer.is_written(shard)})

    @contextmanager
    def joined(self, *, part: int | None = None, settles: bool = True) -> Iterator[StoreWriter | None]:
        """A hold on the store beside others; None where it is finished, or is being finished by another process.
        Without `settles` by a process that had one before: the plan is written down, and is only compared."""
        with ExitStack() as stack:
            writer = None
            try:
                if not self._is_finished():
                    if settles or not is_unfinished(self.out):
                        settle_plan(self.out, self.plan, expected=self.expected_samples)
                    writer = stack.enter_context(joining(self.out, self.plan, recipe_N=self.recipe_N, part=part))
            except StoreExists:
                if not self._is_finished():
                    raise
            except StoreBusy:
                if dump_state(self.out).missing:
                    raise
            yield None if self._is_finished() else writer
        if writer is not None:
            self._is_finished()  # tidies up what joining a store has left that was finished at that moment

    def commit_alone(self, output: ShardOutput, writer: StoreWriter, targets: Targets) -> bool:
        """Commit the only shard that is computed; False where it was there already. Warns of what it tells."""
        written = commit_shard(output, writer=writer, source=self.source, targets=targets)
        minima = Minima()
        minima.look_at(output, self.source)
        minima.tell()
        if output.num_redone:
            tell_redone(output.num_redone, self.options)
        return bool(written)

    def _is_finished(self) -> bool:
        return find_finished(self.out, self.plan) is not None

    def _do(
        self,
        run: Run,
        writer: StoreWriter,
        shards: Sequence[Shard],
        *,
        done: int,
        on_shard: OnShard,
        on_progress: OnProgress | None,
    ) -> None:
        """`done` is how many rows of the shards that were asked for are not left to do."""
        aligned, targets, selections, minima = self.aligned(), self.targets(), self.selections(), Minima()
        total = done + sum(shard.num_rows for shard in shards)
        rows, bytes_written, num_redone = done, 0, 0

        def commit(output: ShardOutput) -> None:
            nonlocal bytes_written, num_redone
            if writer.parent is None and self._is_finished():  # by others, on a file system without locks
                return
            bytes_written += self._commit(output, writer, targets)
            num_redone += output.num_redone
            minima.look_at(output, self.source)
            on_shard(output.shard.num_rows)

        def on_batch(count: int) -> None:
            nonlocal rows
            rows = min(rows + count, total)  # a shard that failed is computed again
            if on_progress is not None:
                on_progress(DumpProgress(rows=rows, total_rows=total, bytes_written=bytes_written))

        compute_own = partial(compute, run, aligned, selections, options=self.options, on_batch=on_batch)
        do_shards(self.out, shards, compute=compute_own, commit=commit)
        minima.tell()
        if num_redone:
            tell_redone(num_redone, self.options)

    def _commit(self, output: ShardOutput, writer: StoreWriter, targets: Targets) -> int:
        """Bytes on disk. Warns with OtherNumerics where another process has committed the shard with other files."""
        try:
            return commit_shard(output, writer=writer, source=self.source, targets=targets)
        except StoreBusy:
            warnings.warn(
                f"{self.out}: shard {output.shard.name} was written by another process meanwhile, with other bits, as "
                f"another device computes them. Its files stay",
                OtherNumerics,
                stacklevel=2,
            )
            return 0

    def _tell_set_aside(self, writer: StoreWriter, names: Container[str]) -> None:
        failed = [each for each in find_failed(writer) if each.name in names]
        if failed:
            raise UnfinishedStore(
                f"{self.out}: all shards that were asked for are there but those that fail. {tell_set_aside(failed)}. "
                f"Mend the cause, then ask for such a shard alone: `shards = {failed[0].number}` tries it again."
            )

    def check_contents(self, writer: StoreWriter) -> None:
        """Read some of the samples anew that this dump knows already. Raises StoreMismatch for one that has changed."""
        step = "Restore the data, or choose another `out`."
        check_known_contents(self.source, writer.known_hashes(), where=str(self.out), next_step=step)

    def find_staying(self, begun: StorePlan) -> Stays | None:
        """What of an unfinished dump that was begun with another plan stays."""
        assert isinstance(self.out, Path), "nothing is revised where it can't be locked"
        return find_staying(begun, self.plan, self.source, self.out)

    def check_teacher(self, run: Run, writer: StoreWriter | None, *, but: Container[str] = ()) -> bool:
        """Compare what the teacher gives for two samples with what is stored, as far as something is, `but` for shards
        of these names; without a writer with the finished store. False where nothing was. Predictions in a file are
        known by its hash. Raises StoreMismatch, and warns, as `check_same_teacher`."""
        if not isinstance(run, TeacherRun):
            return True
        stored = [] if writer is None else ends_of_dump(writer, but=but)
        if writer is None or writer.parent is not None:
            before = ends_of_store(open_store(self.out))
            stored = [before[0], (stored or before)[-1]]
        check_same_teacher(run, self.aligned(), stored, where=self.out)
        return bool(stored)

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


def finalize(out: str | Place) -> Manifest:
    """The finished store's manifest, written last, once all shards are there; of a finished store its own.

    Raises UnfinishedStore where shards are missing, DamagedStore where a file is not what was written (its shard is
    then redone), NotAStore where no dump was begun."""
    place = place_of(out)
    with finishing(place) as writer:
        if writer is None:
            return read_manifest(place)[0]
        return writer.finish()
