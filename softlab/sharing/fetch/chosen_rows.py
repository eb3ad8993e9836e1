"""Write the rows of chosen samples into new shards, the same to the bit.

In this file a `source` is a shard of the whole store, and a `shard` is one of the new store. With 4 rows a shard, for
example, the samples 1, 2 and 9 are read from the sources 0 and 2, and all written to shard 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec import UnsetType
from numpy.typing import NDArray

from softlab.identity import ContentHashes
from softlab.manifest import (
    ClassesRecord,
    FileRecord,
    Manifest,
    PrecisionRecord,
    Statistics,
    StorePlan,
    precision_of_each,
    spans_of,
)
from softlab.remote.parallel import in_parallel
from softlab.shards import Shard
from softlab.sharing.fetch.chosen_samples import ChosenSamples
from softlab.sharing.fetch.download import OnBytes
from softlab.store.access import writing
from softlab.store.files import read_file
from softlab.store.folder import find_finished
from softlab.store.format import Array, counts_in
from softlab.store.known_formats import format_named
from softlab.store.label_coding import coding_of
from softlab.store.reader import Store
from softlab.store.statistics import measure
from softlab.store.unit_rows import places_of_rows
from softlab.store.writer import StoreWriter


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
        digests = [each.of_samples(self.chosen.store_N) for each in digests]
        with writing(out, self.plan, recipe_N=self.chosen.table.recipe_N) as writer:
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
        parts = np.unique(self.chosen.store_N[shard.start : shard.stop] // grid.shard_rows)
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
        rows_N = self.chosen.table.rows_N
        hashes = ContentHashes(self.chosen.table.content_hashes)[shard.start : shard.stop]
        writer.write(
            shard,
            arrays=arrays,
            content_hashes=list(hashes),
            statistics=self._measure(shard, sources, arrays),
            pixel_digests=pixel_digests,
            rows_S=None if rows_N is None else rows_N[shard.start : shard.stop],
            precisions=self._precisions(shard, sources),
        )

    def _precisions(self, shard: Shard, sources: Sequence[Shard]) -> tuple[PrecisionRecord, ...] | UnsetType:
        """Which of the chosen samples were run in another precision than the teacher's."""
        usual, found = self.plan.teacher.precision, []
        for source in sources:
            first, last = self._span(source)
            chosen_S = self.chosen.store_N[max(shard.start, first) : min(shard.stop, last)]
            found.append(precision_of_each(self.store.shard_record(source), usual=usual)[chosen_S - source.start])
        return spans_of(np.concatenate(found), start=shard.start, usual=usual)

    def _read(self, source: Shard) -> dict[str, Array]:
        """All chosen rows of a source."""
        first, last = self._span(source)
        within_S = self.chosen.store_N[first:last] - source.start
        read: dict[str, Array] = {}
        found: dict[str, Array] = {}
        rows_S = self._rows_of(source) if self.plan.has_units else None
        for group in (group for output in self.plan.outputs for group in self.plan.groups_of(output)):
            own = self.store.read_shard(source, group=group)
            read |= own
            counts_S = counts_in(self.plan, group, read, rows_S=rows_S)
            places = within_S if counts_S is None else places_of_rows(counts_S, within_S)
            found |= {name: array[places] for name, array in own.items()}
        return found

    def _rows_of(self, source: Shard) -> NDArray[np.int64]:
        """How many rows each sample of a shard of the whole store has, in an output with units."""
        units = self.store.units
        assert units is not None, "an output of it has units"
        return units.rows_N[source.start : source.stop]

    def _span(self, source: Shard) -> tuple[int, int]:
        """Where in `store_N` the samples of a source begin and end."""
        first, last = np.searchsorted(self.chosen.store_N, [source.start, source.stop])
        return int(first), int(last)

    def _within(self, source: Shard, shard: Shard) -> dict[str, Array]:
        """The chosen rows of a source that belong into a shard."""
        first, last = self._span(source)
        start, stop = max(shard.start, first) - first, min(shard.stop, last) - first
        rows_N, held = self.chosen.table.rows_N, self._held[source]
        rows_S, found = None if rows_N is None else rows_N[first:last], {}
        for each in self.plan.storage.fields:
            counts_S = counts_in(self.plan, each.group, held, rows_S=rows_S)
            ends = range(last - first + 1) if counts_S is None else np.cumsum(np.concatenate([[0], counts_S]))
            found[each.name] = held[each.name][ends[start] : ends[stop]]
        return found

    def _measure(self, shard: Shard, sources: Sequence[Shard], arrays: dict[str, Array]) -> dict[str, Statistics]:
        return {output.name: self._measure_output(output, shard, sources, arrays) for output in self.plan.classes}

    def _measure_output(
        self, output: ClassesRecord, shard: Shard, sources: Sequence[Shard], arrays: dict[str, Array]
    ) -> Statistics:
        """Statistics of the rows as they are stored.

        How many logits were clipped is known for a whole source only, not for its rows. So the count is an upper bound:
        that of each source is added to one shard, the one with its first chosen row.
        """
        groups = self.plan.groups_of(output)
        fields = [field for group in groups for field in self.plan.storage.fields_of(group)]
        labels = {field.short_name: arrays[field.name] for field in fields}
        records = [self.store.shard_record(source).statistics[output.name] for source in sources]
        begins = [shard.start <= self._span(source)[0] for source in sources]
        targets_N = self.chosen.table.targets_N
        compared = self.store.manifest.statistics[output.name].rows_with_target > 0
        return measure(
            coding_of(output).decode(labels),
            encoded=labels,
            targets_N=targets_N[shard.start : shard.stop] if targets_N is not None and compared else None,
            clipped_logits=sum(each.clipped_logits for each, own in zip(records, begins, strict=True) if own),
        )

    def _bytes_of(self, source: Shard) -> int:
        """The size of those files of a source that are read."""
        path_of = format_named(self.plan.storage.format).path_of
        paths = {path_of(field, source) for field in self.plan.storage.fields}
        return sum(file.bytes for file in self.store.shard_record(source).files if file.path in paths)
