"""The tables beside a store's shards: its samples, and the digests of their pixels."""

# Shape letters: N samples.

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from mmap import mmap
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.disk import write_whole
from softlab.errors import DamagedStore
from softlab.identity import CONTENT_HASH_BYTES
from softlab.indices import RecipeIndex, StoreIndex
from softlab.keys import Keys
from softlab.manifest import FileRecord, Manifest
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.cache import CachedRows, CacheOptions, cache_folder
from softlab.store.files import map_file, read_file
from softlab.store.pixel_digests import PixelDigests, decode_digests, digested_samples
from softlab.store.rows import Rows
from softlab.store.sample_columns import SampleColumns, SampleParts, stretches
from softlab.store.samples import SampleTable, decode_samples, join_tables
from softlab.store.shard_rows import ShardRows

HASHES, TABLE = "content-hashes", "samples"
"""Of files in the row cache. No group has these names: those of outputs begin with `outputs`, `labels`, `features`."""


class StoredTables:
    """Of one store."""

    def __init__(self, place: Place, manifest: Manifest, *, name: str, digest: str, cache: CacheOptions) -> None:
        self._place, self._manifest, self._name = place, manifest, name
        self._digest, self._cache = digest, cache
        self._fetched: dict[str, bytes] = {}
        """Of a remote store."""
        self._hashes: CachedRows | ShardRows | None = None

    def samples(self) -> SampleTable:
        """Keys, hard targets and content hashes of all samples."""
        with self._damage_told("its table of samples"):
            files = zip(self._manifest.samples_files, self._manifest.samples_grid, strict=True)
            table = join_tables([decode_samples(self._read(file), num_samples=part.num_rows) for file, part in files])
            _check_table(table, self._manifest)
        # A store that was pulled without its outputs with units has the table of the whole store.
        return table if self._manifest.has_units else replace(table, rows_N=None)

    @cached_property
    def columns(self) -> SampleParts:
        """The same of a store with very many samples, a stretch at a time. A whole file is hashed when something of it
        is first asked for."""
        return SampleParts(self._manifest.samples_grid, self._open_part)

    def _open_part(self, part: Shard) -> SampleColumns:
        with self._damage_told("its table of samples"):
            record = self._manifest.samples_files[part.part]
            return SampleColumns(self._map(record, part), num_samples=part.num_rows)

    def _map(self, record: FileRecord, part: Shard) -> bytes | mmap:
        """Of a store elsewhere the file is kept in the row cache, or in memory where that hasn't room for it."""
        if isinstance(self._place, Path):
            return map_file(self._place, record)
        folder = cache_folder(
            self._cache, digest=self._digest, name=f"{TABLE}-{part.part:05d}", needed_bytes=record.bytes
        )
        return self._read(record) if folder is None else self._keep_in(folder, record, part)

    def _keep_in(self, folder: Path, record: FileRecord, part: Shard) -> bytes | mmap:
        kept = msgspec.structs.replace(record, path=f"{TABLE}-{part.part:05d}-view-00000.rows")
        with suppress(DamagedStore):
            return map_file(folder, kept)  # whoever wrote it: its hash is compared
        data = read_file(self._place, record)
        write_whole(folder, {kept.path: data})
        with suppress(DamagedStore):
            return map_file(folder, kept)
        return data  # another process has made room of it this moment

    def keys(self) -> Iterator[Keys]:
        """Those of all samples in their order, some at a time."""
        with self._damage_told("its table of samples"):
            yield from self.columns.keys()

    def samples_at(self, store_B: StoreIndex) -> SampleTable:
        """Keys, hard targets and content hashes of a few samples."""
        with self._damage_told("its table of samples"):
            return self.columns.take(store_B)

    def recipe_N(self) -> RecipeIndex | None:
        """As `SampleTable.recipe_N`, without the rest of the table."""
        with self._damage_told("its table of samples"):
            found = self.columns.recipe_N()
            _check_recipe(found, self._manifest)
            return found

    def hashes(self) -> Iterator[NDArray[np.uint8]]:
        """All content hashes in their order, some at a time, uint8 [.., 16]."""
        with self._damage_told("its table of samples"):
            yield from self.columns.hashes()

    def hashes_of(self, store_B: StoreIndex) -> NDArray[np.uint8]:
        """Content hashes of some samples, uint8 [B, 16]. They are kept in the row cache, or where that hasn't room for
        them some of them in memory."""
        if self._hashes is None:
            self._hashes = self._open_hashes()
        return self._hashes.take(store_B)

    def _open_hashes(self) -> CachedRows | ShardRows:
        grid, needed_bytes = stretches(self._num_samples), CONTENT_HASH_BYTES * self._num_samples
        recorded = " ".join(file.blake3 for file in self._manifest.samples_files)
        folder = cache_folder(self._cache, digest=self._digest, name=HASHES, needed_bytes=needed_bytes)
        if folder is None:
            return ShardRows(grid=grid, row_bytes=CONTENT_HASH_BYTES, decode=self._decode_hashes, view=0)
        return CachedRows(
            folder,
            name=HASHES,
            grid=grid,
            row_bytes=CONTENT_HASH_BYTES,
            decode=self._decode_hashes,
            recorded=lambda stretch: f"{recorded} {stretch.part}",
            view=0,
            check="all" if self._cache.check == "all" else "none",  # for one stretch the whole file would be hashed
        )

    def _decode_hashes(self, stretch: Shard, rows: Rows) -> None:
        with self._damage_told("its table of samples"):
            self.columns.hashes_into(stretch, rows)

    @contextmanager
    def _damage_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, LookupError, OSError, RuntimeError) as error:  # whatever Arrow raises
            raise DamagedStore(f"{self._name}: {what}: {error}. Get the store again.") from error

    def pixel_digests(self, view: int) -> PixelDigests:
        """Of the samples of one view whose digest was kept; of none where the store keeps none."""
        if not self._manifest.digest_files:
            return PixelDigests.none()
        with self._damage_told(f"pixel digests of view {view}"):
            digests = decode_digests(self._read(self._manifest.digest_files[view]), max_rows=self._num_samples)
            if not np.array_equal(digests.store_D, self._digested(view)):
                raise ValueError("of other samples than the manifest says")
            return digests

    @property
    def _num_samples(self) -> int:
        return self._manifest.source.num_samples

    def _digested(self, view: int) -> StoreIndex:
        views, is_part = self._manifest.views, self._manifest.source.chosen_from is not None
        recipe_N = self.samples().recipe_N if is_part else None
        return digested_samples(
            0, self._num_samples, view=views.first + view, every=views.digest_every, recipe_N=recipe_N
        )

    def _read(self, record: FileRecord) -> bytes:
        if isinstance(self._place, Path):
            return read_file(self._place, record)
        if record.path not in self._fetched:
            self._fetched[record.path] = read_file(self._place, record)
        return self._fetched[record.path]


def _check_table(table: SampleTable, manifest: Manifest) -> None:
    """Raises ValueError unless it is told which samples the teacher saw where it saw others, and how many rows each has
    where there are units."""
    room = manifest.storage.shard_units
    if room is not None and table.rows_N is None:
        raise ValueError("counts of rows are missing")
    if room is not None and table.rows_N is not None and _most_in_a_shard(table.rows_N, manifest) > room:
        raise ValueError("a shard's samples have more rows than it has room for")
    _check_recipe(table.recipe_N, manifest)


def _check_recipe(recipe_N: RecipeIndex | None, manifest: Manifest) -> None:
    chosen_from = manifest.source.chosen_from
    if (recipe_N is None) != (chosen_from is None):
        raise ValueError(f"recipe indices {'are missing' if recipe_N is None else 'that are not asked for'}")
    if recipe_N is not None and chosen_from is not None and recipe_N[-1] >= chosen_from:
        raise ValueError(f"a sample has the recipe index {recipe_N[-1]} of {chosen_from}")


def _most_in_a_shard(rows_N: NDArray[np.int64], manifest: Manifest) -> int:
    starts = np.arange(0, len(rows_N), manifest.storage.shard_rows)
    return int(np.add.reduceat(rows_N, starts).max()) if len(rows_N) else 0
