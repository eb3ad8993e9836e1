"""Rows of chosen samples, carried over to the bit into shards of their own."""

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
    """Writes the rows of chosen samples; fetches the shards that hold one of them, each once, and no others."""

    store: Store
    chosen: ChosenSamples
    plan: StorePlan
    jobs: int
    on_bytes: OnBytes | None = None
    bytes_fetched: int = 0
    _total: int = 0
    _held: dict[Shard, dict[str, Array]] = field(default_factory=dict)
    """Chosen rows of shards that were fetched and whose last row has not been written."""

    def write(self, out: Path) -> Manifest:
        """The finished store. An interrupted one is gone on with. Raises as `writing`, and DamagedStore, also where the
        store that is there already is damaged."""
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
        hashes = ContentHashes(self.chosen.table.content_hashes)[shard.start : shard.stop]
        writer.write(
            shard,
            arrays=arrays,
            content_hashes=list(hashes),
            statistics=self._measure(shard, sources, arrays),
            pixel_digests=pixel_digests,
        )

    def _read(self, source: Shard) -> dict[str, Array]:
        """All of its chosen rows."""
        first, last = self._span(source)
        rows = self.chosen.store_N[first:last] - source.start
        groups = dict.fromkeys(field.group for field in self.plan.storage.fields)
        return {
            name: array[rows] for group in groups for name, array in self.store.read_shard(source, group=group).items()
        }

    def _span(self, source: Shard) -> tuple[int, int]:
        """Which of the chosen samples it holds."""
        first, last = np.searchsorted(self.chosen.store_N, [source.start, source.stop])
        return int(first), int(last)

    def _within(self, source: Shard, shard: Shard) -> dict[str, Array]:
        """Those of its chosen rows that belong into a shard."""
        first, last = self._span(source)
        here = slice(max(shard.start, first) - first, min(shard.stop, last) - first)
        return {name: array[here] for name, array in self._held[source].items()}

    def _measure(self, shard: Shard, sources: Sequence[Shard], arrays: dict[str, Array]) -> Statistics:
        """From the rows as they are stored. Which of a shard's logits were clipped is known of the whole shard only:
        the count is what it may be at most, each whole shard's being told once."""
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
        """Of the files that are read of it."""
        path_of = format_named(self.plan.storage.format).path_of
        paths = {path_of(field, source) for field in self.plan.storage.fields}
        return sum(file.bytes for file in self.store.shard_record(source).files if file.path in paths)
