"""The tables beside a store's shards: its samples, and the digests of their pixels."""

# Shape letters: N samples.

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlab.errors import DamagedStore
from softlab.indices import StoreIndex
from softlab.manifest import FileRecord, Manifest
from softlab.remote.remote import Place
from softlab.store.files import read_file
from softlab.store.pixel_digests import PixelDigests, decode_digests, digested_samples
from softlab.store.samples import SampleTable, decode_samples


class StoredTables:
    """Of one store."""

    def __init__(self, place: Place, manifest: Manifest, *, name: str) -> None:
        self._place, self._manifest, self._name = place, manifest, name
        self._fetched: dict[str, bytes] = {}
        """Of a remote store."""

    def samples(self) -> SampleTable:
        """Keys, hard targets and content hashes of all samples."""
        try:
            table = decode_samples(self._read(self._manifest.samples_file), num_samples=self._num_samples)
            _check_table(table, self._manifest)
        except (ValueError, LookupError, OSError, RuntimeError) as error:  # whatever Arrow raises
            raise DamagedStore(f"{self._name}: its table of samples: {error}. Get the store again.") from error
        # A store that was pulled without its outputs with units has the table of the whole store.
        return table if self._manifest.has_units else replace(table, rows_N=None)

    def pixel_digests(self, view: int) -> PixelDigests:
        """Of the samples of one view whose digest was kept; of none where the store keeps none."""
        if not self._manifest.digest_files:
            return PixelDigests.none()
        try:
            digests = decode_digests(self._read(self._manifest.digest_files[view]), max_rows=self._num_samples)
            if not np.array_equal(digests.store_D, self._digested(view)):
                raise ValueError("of other samples than the manifest says")
            return digests
        except (ValueError, LookupError, OSError, RuntimeError) as error:  # whatever Arrow raises
            raise DamagedStore(f"{self._name}: pixel digests of view {view}: {error}. Get the store again.") from error

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
    chosen_from, recipe_N = manifest.source.chosen_from, table.recipe_N
    if (recipe_N is None) != (chosen_from is None):
        raise ValueError(f"recipe indices {'are missing' if recipe_N is None else 'that are not asked for'}")
    if recipe_N is not None and chosen_from is not None and recipe_N[-1] >= chosen_from:
        raise ValueError(f"a sample has the recipe index {recipe_N[-1]} of {chosen_from}")


def _most_in_a_shard(rows_N: NDArray[np.int64], manifest: Manifest) -> int:
    starts = np.arange(0, len(rows_N), manifest.storage.shard_rows)
    return int(np.add.reduceat(rows_N, starts).max()) if len(rows_N) else 0
