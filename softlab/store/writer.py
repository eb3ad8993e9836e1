"""Write a store shard by shard, so that a crash at any moment costs at most the shards in flight.

    STORE/commits/plan.json             what this dump is; a resumed one must be the same
    STORE/commits/samples.parquet       keys and targets, so that whoever finishes the store needs no source
    STORE/commits/<shard>.hashes        content hashes of the samples that the shard's rows came from
    STORE/commits/<shard>.json          the commit record, created last: its shard exists from then on
    STORE/commits/attempts, workers     what is told of shards that failed, and of processes; nothing hangs on it

Work with a record is never done again; a file without one is swept when the dump is resumed. `finalize` gathers the
records into the manifest and writes that last; `commits/` is removed then.

A plan whose `parent` is the finished store at the same place adds views to it. That store stays whole, and readable,
until its manifest is replaced: none of its shards is touched.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from softlab.errors import DamagedStore, StoreBusy, StoreError, StoreMismatch
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import RecipeIndex, StoreIndex
from softlab.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    PrecisionRecord,
    ShardRecord,
    Statistics,
    StorePlan,
    TokensRecord,
    encode,
)
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.commit_record import CommitRecord, held, is_of, is_present, read_commit, record_name, rows_of
from softlab.store.files import read_file, records_of
from softlab.store.folder import (
    COMMITS,
    EXPECTED_SAMPLES,
    LOCK_NAME,
    PLAN_NAME,
    find_parent,
    names_of_commits,
    written_by,
)
from softlab.store.format import Arrays, check_arrays
from softlab.store.known_formats import format_named
from softlab.store.known_samples import REPEAT, KnownSamples
from softlab.store.last_files import write_last_files
from softlab.store.manifest_file import read_manifest
from softlab.store.pixel_digests import digested_samples
from softlab.store.place import files_at
from softlab.store.sample_columns import stretches
from softlab.store.samples import SampleTable, cut
from softlab.store.units_of_shard import check_room, check_same_rows

TRIES = 3
"""To create a record that was in the way and is gone again: who finishes the store removes it."""


class StoreWriter:
    """One process's hold on an unfinished store; made by `writing` or `joining`."""

    def __init__(
        self, root: Place, plan: StorePlan, *, recipe_N: RecipeIndex | None = None, part: int | None = None
    ) -> None:
        """`recipe_N` is that of the table of samples which `finalize` will get. With `part` it writes that part of each
        view alone, and reads no other shards' records."""
        self.root = root
        self.plan = plan
        self._files, self._recipe_N, self._part = files_at(root), recipe_N, part
        self.parent = find_parent(root, plan)
        """The finished store that views are added to."""

        self._format = format_named(plan.storage.format)
        self.damaged: list[Shard] = []
        """Shards that had a record, of which something isn't what was written: they are pending again."""

        self._commits = self._read_commits()
        self._known = KnownSamples(root, plan, parent=self.parent)

    @property
    def finished(self) -> list[CommitRecord]:
        """Records of the shards that this dump has on disk, in the order of the grid."""
        return [self._commits[shard.name] for shard in self.own_shards if shard.name in self._commits]

    @property
    def own_shards(self) -> list[Shard]:
        """Those that this dump is to write: all of the grid but the parent's; or of one part."""
        grid, first_view = self.plan.grid, self.parent.views.num_views if self.parent else 0
        parts = range(grid.parts_per_view) if self._part is None else [self._part]
        return [grid.shard(view, part) for view in range(first_view, grid.num_views) for part in parts]

    @property
    def pending(self) -> list[Shard]:
        """Shards still to be written, in the order of the grid."""
        return [shard for shard in self.own_shards if shard.name not in self._commits]

    @property
    def missing(self) -> list[int]:
        """Numbers of the pending shards among its own."""
        return [number for number, shard in enumerate(self.own_shards) if shard.name not in self._commits]

    def is_written(self, shard: Shard) -> bool:
        return shard.name in self._commits

    def reread(self) -> None:
        """Learn what other processes have committed."""
        self._commits = self._read_commits()

    def write(
        self,
        shard: Shard,
        *,
        arrays: Arrays,
        content_hashes: list[bytes],
        statistics: Mapping[str, Statistics],
        pixel_digests: Sequence[int] = (),
        rows_S: NDArray[np.int64] | None = None,
        precisions: tuple[PrecisionRecord, ...] | UnsetType = UNSET,
        cut_off: int | UnsetType = UNSET,
        tokens: TokensRecord | UnsetType = UNSET,
    ) -> int:
        """Commit one shard; its bytes on disk. Safe to call from another thread than the one that made the writer.

        `rows_S` says how many rows each of its samples has in an output with units, `precisions` which of them were run
        in another precision than `teacher.precision`, `cut_off` how many were longer than the teacher's input, `tokens`
        how many of their tokens that lets in. Raises StoreMismatch for a sample whose content was another one before;
        TeacherError where its rows are more than a shard has room for, or others than in another view.
        """
        self._check_contents(shard, content_hashes)
        self._check_rows(shard, rows_S)
        check_arrays(self.plan, shard, arrays, rows_S=rows_S)
        assert len(pixel_digests) == len(self._digested(shard)), f"shard {shard.name}: {len(pixel_digests)} digests"
        data = dict(self._format.encode(self.plan, shard, arrays, rows_S=rows_S))
        hashes = {f"{COMMITS}/{shard.name}.hashes": b"".join(content_hashes)}
        record = CommitRecord(
            shard=ShardRecord(
                view=shard.view,
                start=shard.start,
                stop=shard.stop,
                files=records_of(data),
                statistics=dict(statistics),
                precisions=precisions,
                cut_off=cut_off,
                tokens=tokens,
            ),
            hashes_file=records_of(hashes)[0],
            rows=b"" if rows_S is None else rows_S.astype("<i8").tobytes(),
            pixel_digests=np.array(pixel_digests, dtype="<u8").tobytes(),
        )
        written = self._commit(shard, record, data | hashes)
        self._commits[shard.name] = held(record)
        return sum(file.bytes for file in record.shard.files) if written else 0

    def _commit(self, shard: Shard, record: CommitRecord, files: Mapping[str, bytes]) -> bool:
        """False where another process has committed the very same files: its work was done twice, and that is all.
        Raises StoreBusy where it has committed others, which stay as they are."""
        path = record_name(shard)
        if self._is_finished_with(record):
            return False
        has_record = self._files.has(path)
        if self._present_commit(shard) is None:
            if has_record:  # not what was written, or its files aren't
                self._files.remove([path])
            self._files.add(files, check=lambda: self._check_unwritten(record))
        for _ in range(TRIES):
            if self._files.create(path, encode(record)):
                return True
            if self._is_done_with(record, path):
                return False
        raise self._busy(path)

    def _check_unwritten(self, record: CommitRecord) -> None:
        """Where files of other bytes are there already: they may be those of a process that was faster."""
        self._is_done_with(record, record_name(self.plan.grid.shard_at(record.shard.view, record.shard.start)))

    def _is_done_with(self, record: CommitRecord, path: str) -> bool:
        """Whether another process has committed the same files; its record is gone again where it has finished the
        store since. Raises StoreBusy where it has committed others."""
        found = read_commit(self._files, path)
        if found == record or self._is_finished_with(record):
            return True
        if found is not None:
            raise self._busy(path)
        return False

    def _is_finished_with(self, record: CommitRecord) -> bool:
        """Whether others have finished this store with the same files. Raises StoreBusy where with other ones."""
        finished = self._finished_by_others()
        if finished is not None and record.shard not in finished.shards:
            raise self._busy(MANIFEST_NAME)
        return finished is not None

    def _finished_by_others(self) -> Manifest | None:
        """While this process was at work, which a lock prevents where there is one."""
        is_finished = self.parent is None and self._files.has(MANIFEST_NAME)
        return read_manifest(self.root)[0] if is_finished else None

    def _busy(self, path: str) -> StoreBusy:
        return StoreBusy(f"{self.root / path}: written by another process at the same time. Let that one go on.")

    def samples(self, known: SampleTable | None = None) -> Iterator[SampleTable]:
        """The table of samples, a stretch at a time, from what was written down before the first shard and what the
        shards' records hold. Who has the former in memory gives it as `known`. Raises DamagedStore where it is missing,
        and StoreMismatch for a sample whose content isn't what it was."""
        tables = self._known.tables() if known is None else cut(known)
        if tables is None:
            raise DamagedStore(f"{self.root / EXPECTED_SAMPLES}: is missing. {REPEAT}")
        return self._filled_in(tables)

    def _filled_in(self, tables: Iterable[SampleTable]) -> Iterator[SampleTable]:
        start = 0
        for table in tables:
            hashes_S16 = ContentHashes(table.content_hashes).bytes_N16.copy()
            self._fill_in(hashes_S16, start=start)
            rows_S = table.rows_N if self.parent is not None else self._rows_between(start, start + len(table))
            yield replace(
                table,
                content_hashes=ContentHashes.from_bytes(hashes_S16),
                rows_N=rows_S if self.plan.has_units else None,
            )
            start += len(table)

    def known_hashes(self) -> Iterator[NDArray[np.uint8]]:
        """Content hashes in the order of store indices, a stretch at a time, [S, 16]; zeros for samples that nothing is
        known of yet."""
        for stretch in stretches(self.plan.source.num_samples):
            known_S16 = self._known.hashes_between(stretch.start, stretch.stop)
            shape = (stretch.num_rows, CONTENT_HASH_BYTES)
            hashes_S16 = np.zeros(shape, dtype=np.uint8) if known_S16 is None else known_S16.copy()
            self._fill_in(hashes_S16, start=stretch.start)
            yield hashes_S16

    def _fill_in(self, hashes_S16: NDArray[np.uint8], *, start: int) -> None:
        """What records tell of the samples from `start` on. Raises StoreMismatch where something else was known."""
        stop = start + len(hashes_S16)

        def fill_in(records: Sequence[CommitRecord]) -> None:
            for record in records:
                here, own = _overlap(record, start, stop)
                found_S16 = self.content_hashes(record).bytes_N16[own]
                self._check_same(hashes_S16[here], found_S16, start=start + here.start)
                hashes_S16[here] = found_S16

        for _ in self._files.each(fill_in, self._records_between(start, stop)):
            pass

    def _records_between(self, start: int, stop: int) -> list[list[CommitRecord]]:
        """By part, those of shards with samples in a stretch."""
        grid = self.plan.grid
        parts = range(start // grid.shard_rows, -(-stop // grid.shard_rows))
        names = [[grid.shard(view, part).name for view in range(grid.num_views)] for part in parts]
        return [[self._commits[name] for name in each if name in self._commits] for each in names]

    def _rows_between(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """How many rows each sample of a stretch has in an output with units; None without units."""
        if not self.plan.has_units:
            return None
        first_view = [records[0] for records in self._records_between(start, stop)]
        return np.concatenate([rows_of(record)[_overlap(record, start, stop)[1]] for record in first_view])

    def _check_contents(self, shard: Shard, content_hashes: Sequence[bytes]) -> None:
        """Against what is known of the samples of a shard: from before the dump, or from another view."""
        found, known_S16 = ContentHashes(content_hashes).bytes_N16, self._known.hashes_between(shard.start, shard.stop)
        if known_S16 is not None:
            self._check_same(known_S16, found, start=shard.start)
        record = self._in_another_view(shard)
        if record is not None:
            self._check_same(self.content_hashes(record).bytes_N16, found, start=shard.start)

    def _check_same(self, known_S16: NDArray[np.uint8], found_S16: NDArray[np.uint8], *, start: int) -> None:
        differs_S = known_S16.any(axis=1) & (known_S16 != found_S16).any(axis=1)
        if differs_S.any():
            raise self.changed_sample(start + int(differs_S.argmax()))

    def changed_sample(self, store_index: int) -> StoreMismatch:
        """The error for a sample that is not what it was when it was first read."""
        known = self._known.read()
        name = store_index if known is None else repr(known.keys[store_index])
        return StoreMismatch(
            f"{self.root}: sample {name} has changed since this dump was begun, or since the store was made that it is "
            f"to be like. Restore the data, or choose another `out`."
        )

    def content_hashes(self, record: CommitRecord) -> ContentHashes:
        """Of the samples of one finished shard, in their order. Raises DamagedStore as `finalize`."""
        return ContentHashes.from_bytes(self._read_written(record, record.hashes_file))

    def read_files(self, record: CommitRecord) -> dict[str, bytes]:
        """Those of one finished shard by path. Raises DamagedStore as `finalize`."""
        return {file.path: self._read_written(record, file) for file in record.shard.files}

    def others(self, *, but: Container[str] = ()) -> list[CommitRecord]:
        """For a writer of one part, which doesn't read all records: those of the first and the last shard that others
        have written, as their names say it, `but` for those of some names."""
        if self._part is None:
            return []
        paths = [path for path in names_of_commits(self.root) if PurePath(path).stem not in but]
        found = [read_commit(self._files, path) for path in (*paths[:1], *paths[1:][-1:])]
        records = [record for record in found if record is not None]
        shards = [self.plan.grid.shard_at(record.shard.view, record.shard.start) for record in records]
        size = self._files.size
        return [record for record, shard in zip(records, shards, strict=True) if _is_present(record, shard, size)]

    def finish(self, known: SampleTable | None = None) -> Manifest:
        """As `finalize`, with the table of samples that `samples` makes of what is known; or the manifest that another
        process wrote meanwhile. Raises DamagedStore also where shards are missing."""
        try:
            if self.pending:
                raise DamagedStore(f"{self.root}: {tell_shards(self.pending)}. Run the same command again.")
            return self._finalize(self.samples(known))
        except StoreError:
            finished = self._finished_by_others()
            if finished is None:
                raise
            return finished

    def finalize(self, samples: SampleTable) -> Manifest:
        """Read every file back, write what belongs to no shard, then the manifest; the store is finished after that.

        Raises DamagedStore if files are not what was written: their shards then have no record, and are redone next
        time. Raises TeacherError as `write`, where several processes wrote the views of a sample at the same time.
        """
        assert (samples.recipe_N is None) == (self.plan.source.chosen_from is None), "as the plan says"
        assert (samples.rows_N is None) != self.plan.has_units, "as the plan says"
        return self._finalize(cut(samples))

    def _finalize(self, tables: Iterable[SampleTable]) -> Manifest:
        assert not self.pending, "finalize comes after the last shard"
        self.check_written(every_file=True)
        if self.pending:
            raise DamagedStore(
                f"{self.root}: {tell_shards(self.pending)}, found when everything was read back. Run the same command "
                f"again: it writes that anew."
            )
        return write_last_files(
            self.root,
            self.plan,
            parent=self.parent,
            tables=self._with_rows_of_all(tables),
            records=self.finished,
            digested=self._digested,
        )

    def _check_rows(self, shard: Shard, rows_S: NDArray[np.int64] | None) -> None:
        if rows_S is None:
            return
        check_room(rows_S, self.plan, shard, where=self.root)
        expected_S = self._rows_in_another_view(shard)
        if expected_S is not None:
            check_same_rows(rows_S, expected_S, start=shard.start, view=shard.view, where=self.root)

    def _with_rows_of_all(self, tables: Iterable[SampleTable]) -> Iterator[SampleTable]:
        """The same, compared with the rows that samples have in each view."""
        start = 0
        for table in tables:
            if table.rows_N is not None:
                self._check_rows_between(start, table.rows_N)
            yield table
            start += len(table)

    def _check_rows_between(self, start: int, rows_S: NDArray[np.int64]) -> None:
        stop = start + len(rows_S)
        for record in (record for records in self._records_between(start, stop) for record in records):
            here, own = _overlap(record, start, stop)
            found_S, view = rows_of(record)[own], record.shard.view
            check_same_rows(found_S, rows_S[here], start=start + here.start, view=view, where=self.root)

    def _rows_in_another_view(self, shard: Shard) -> NDArray[np.int64] | None:
        """Of the same samples, where one is written already."""
        record = self._in_another_view(shard)
        if record is not None:
            return rows_of(record)
        known_N = self._known.rows_N
        return None if known_N is None else known_N[shard.start : shard.stop]

    def _in_another_view(self, shard: Shard) -> CommitRecord | None:
        """The record of the same samples in a view that is written already."""
        shards = (self.plan.grid.shard(view, shard.part) for view in range(self.plan.views.num_views))
        return next((self._commits[each.name] for each in shards if each.name in self._commits), None)

    def _digested(self, shard: Shard) -> StoreIndex:
        """The samples of a shard whose pixel digests are kept."""
        views = self.plan.views
        return digested_samples(
            shard.start,
            shard.stop,
            view=views.first + shard.view,
            every=views.digest_every,
            recipe_N=self._recipe_N,
        )

    def check_written(self, *, every_file: bool) -> None:
        """Read finished shards back: the content hashes of all, and every file, or those of the first and the last
        shard. One that is not what was written is pending afterwards, and among the `damaged`."""
        for _ in self._files.each(
            lambda record: self._keep_if_intact(record, files=record.shard.files if every_file else ()), self.finished
        ):
            pass
        while not every_file:
            ends = [*self.finished[:1], *self.finished[1:][-1:]]
            if all(self._keep_if_intact(record, files=record.shard.files) for record in ends):
                break

    def _keep_if_intact(self, record: CommitRecord, *, files: Sequence[FileRecord]) -> bool:
        try:
            for file in (record.hashes_file, *files):
                self._read_written(record, file)
        except DamagedStore:
            return False
        return True

    def _read_written(self, record: CommitRecord, file: FileRecord) -> bytes:
        """One file of a finished shard; if it is not what was written, the shard's record goes."""
        try:
            return read_file(self.root, file, next_step="Run the same command again: it writes that shard anew.")
        except DamagedStore:
            shard = self.plan.grid.shard_at(record.shard.view, record.shard.start)
            self._files.remove([record_name(shard)])
            if self._commits.pop(shard.name, None) is not None:
                self.damaged.append(shard)
            raise

    def _read_commits(self) -> dict[str, CommitRecord]:
        """Records by shard name; one that is broken, or whose files are not all there with their sizes, is none."""
        found: dict[str, CommitRecord] = {}
        size = self._files.sizes() if self._part is None else self._files.size
        there = [shard for shard in self.own_shards if size(record_name(shard)) is not None]
        for shard, record in self._files.each(lambda shard: read_commit(self._files, record_name(shard)), there):
            if record is not None and _is_present(record, shard, size):
                found[shard.name] = held(record)
            elif self._files.has(record_name(shard)):
                self.damaged.append(shard)
        return found

    def _present_commit(self, shard: Shard) -> CommitRecord | None:
        record = read_commit(self._files, record_name(shard))
        return record if record is not None and _is_present(record, shard, self._files.size) else None

    def sweep(self) -> None:
        """Remove what an interrupted dump left: temporary files, and files that no valid record names. Not where others
        may be at work."""
        if not self._files.locks:
            return
        kept = {PLAN_NAME, LOCK_NAME, EXPECTED_SAMPLES}
        for name, record in self._commits.items():
            kept |= {f"{COMMITS}/{name}.json", record.hashes_file.path, *(file.path for file in record.shard.files)}
        found = self._files.paths()
        if self.parent is not None:  # beside a finished store there may be files of its owner's
            found = written_by(self.plan, found)
            kept |= {file.path for file in self.parent.files}
        self._files.remove([path for path in found if path not in kept])


def _overlap(record: CommitRecord, start: int, stop: int) -> tuple[slice, slice]:
    """Which samples of a stretch a shard has, and which of its own those are."""
    first, last = max(record.shard.start, start), min(record.shard.stop, stop)
    return slice(first - start, last - start), slice(first - record.shard.start, last - record.shard.start)


def tell_shards(shards: Sequence[Shard]) -> str:
    """In the middle of a sentence: that these are damaged."""
    if len(shards) == 1:
        return f"the finished shard {shards[0].name} is not what was written"
    return f"{len(shards):,} finished shards, such as {shards[0].name}, are not what was written"


def _is_present(record: CommitRecord, shard: Shard, size: Callable[[str], int | None]) -> bool:
    return is_of(record, shard) and all(is_present(file, size) for file in (*record.shard.files, record.hashes_file))
