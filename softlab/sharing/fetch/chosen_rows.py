"""Write the rows of chosen samples into new shards, the same to the bit.

In this file a `source` is a shard of the whole store, and a `shard` is one of the new store. With 4 rows a shard, for
example, the samples 1, 2 and 9 are read from the sources 0 and 2, and all written to shard 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from softlab.identity import ContentHashes
from softlab.manifest import FileRecord, Manifest, Statistics, StorePlan
from softlab.remote.parallel import in_parallel
from softlab.shards import Shard
from softlab.sharing.fetch.chosen_samples import ChosenSamples
from softlab.sharing.fetch.download import OnBytes
from softlab.store.files import read_file
from softlab.store.folder import find_finished
from softlab.store.format import Array
from softlab.store.formats import format_named
from softlab.store.reader import Store, coding_of
from softlab.store.statistics import measure
from softlab.store.writer import StoreWriter, writing


@dataclass(kw_only=True, slots=True)
class ChosenRows:
    """Writes the rows of chosen samples. Only the shards that hold some of them are fetched, each of them once."""

    store: Store
    chosen: ChosenSamples
    plan: StorePlan
    jobs: int
    on_bytes: OnBytes | None = None
    bytes_fetched: int = 0
    _total: int = 0
    _held: dict[Shard, dict[str, Array]] = field(default_factory=dict)
    """Chosen rows of sources that were fetched and may still be needed."""

    def write(self, out: Path) -> Manifest:
        """The manifest of the finished store; an interrupted one goes on. Raises as `writing`, and DamagedStore for a
        damaged file, also one of a store that is finished at `out` already."""
        finished = find_finished(out, self.plan)
        if finished is not None:
            self._check_intact(out, finished.files)
            return finished
        digests = [self.store.read_pixel_digests(view) for view in self._views]
        digests = [each.of_samples(self.chosen.samples_N) for each in digests]
        with writing(out, self.plan, numbers_N=self.chosen.table.numbers_N) as writer:
            pending = writer.pending
            sources = dict.fromkeys(source for shard in pending for source in self._sources(shard))
            self._total = sum(map(self._bytes_of, sources))
            for shard in pending:
                self._write_shard(writer, shard, pixel_digests=digests[shard.view].within(shard.start, shard.stop))
            return writer.finalize(self.chosen.table)

    def _check_intact(self, out: Path, files: Sequence[FileRecord]) -> None:
        next_step = f"Remove {out} and pull again."
        for _ in in_parallel(lambda file: len(read_file(out, file, next_step=next_step)), files, jobs=self.jobs):
            pass

    @property
    def _views(self) -> range:
        first = self.plan.views.first - self.store.manifest.views.first
        return range(first, first + self.plan.views.num_views)

    def _sources(self, shard: Shard) -> list[Shard]:
        """The shards of the whole store that hold its rows."""
        grid = self.store.manifest.grid
        parts = np.unique(self.chosen.samples_N[shard.start : shard.stop] // grid.shard_rows)
        return [grid.shard(self._views[shard.view], part) for part in parts.tolist()]

    def _write_shard(self, writer: StoreWriter, shard: Shard, *, pixel_digests: list[int]) -> None:
        sources = self._sources(shard)
        self._held = {source: rows for source, rows in self._held.items() if source in sources}
        missing = [source for source in sources if source not in self._held]
        for source, rows in in_parallel(self._read, missing, jobs=self.jobs):
            self._held[source] = rows
            self.bytes_fetched += self._bytes_of(source)
            if self.on_bytes is not None:
                self.on_bytes(self.bytes_fetched, self._total)
        parts = [self._within(source, shard) for source in sources]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        hashes = ContentHashes(self.chosen.table.content_hashes)[shard.start : shard.stop]
        writer.write(
            shard,
            arrays=arrays,
            content_hashes=list(hashes),
            statistics=self._measure(shard, sources, arrays),
            pixel_digests=pixel_digests,
        )

    def _read(self, source: Shard) -> dict[str, Array]:
        """All chosen rows of a source."""
        first, last = self._span(source)
        rows = self.chosen.samples_N[first:last] - source.start
        groups = dict.fromkeys(field.group for field in self.plan.storage.fields)
        return {
            name: array[rows] for group in groups for name, array in self.store.read_shard(source, group=group).items()
        }

    def _span(self, source: Shard) -> tuple[int, int]:
        """Where in `samples_N` the samples of a source begin and end."""
        first, last = np.searchsorted(self.chosen.samples_N, [source.start, source.stop])
        return int(first), int(last)

    def _within(self, source: Shard, shard: Shard) -> dict[str, Array]:
        """The chosen rows of a source that belong into a shard."""
        first, last = self._span(source)
        here = slice(max(shard.start, first) - first, min(shard.stop, last) - first)
        return {name: array[here] for name, array in self._held[source].items()}

    def _measure(self, shard: Shard, sources: Sequence[Shard], arrays: dict[str, Array]) -> Statistics:
        """Statistics of the rows as they are stored.

        How many logits were clipped is known for a whole source only, not for its rows. So the count is an upper bound:
        that of each source is added to one shard, the one with its first chosen row.
        """
        labels = {name.removeprefix("labels/"): array for name, array in arrays.items() if name.startswith("labels/")}
        records = [self.store.shard_record(source).statistics for source in sources]
        begins = [shard.start <= self._span(source)[0] for source in sources]
        targets_N, compared = self.chosen.table.targets_N, self.store.manifest.statistics.rows_with_target > 0
        return measure(
            coding_of(self.plan).decode(labels),
            targets_N=targets_N[shard.start : shard.stop] if targets_N is not None and compared else None,
            clipped_logits=sum(each.clipped_logits for each, own in zip(records, begins, strict=True) if own),
        )

    def _bytes_of(self, source: Shard) -> int:
        """The size of those files of a source that are read."""
        path_of = format_named(self.plan.storage.format).path_of
        paths = {path_of(field, source) for field in self.plan.storage.fields}
        return sum(file.bytes for file in self.store.shard_record(source).files if file.path in paths)
