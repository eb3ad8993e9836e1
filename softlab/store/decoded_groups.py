"""The arrays of a store, decoded shard by shard as rows are asked for: into the row cache, or into memory."""

# Shape letters: B samples asked for, R rows of an output.

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import UNSET

from softlab.errors import DamagedStore
from softlab.indices import StoreIndex
from softlab.manifest import ENTRIES, SAMPLES, ClassesRecord, Manifest, TokensReadRecord
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.cache import CachedRows, CacheOptions, cache_folder
from softlab.store.format import Array, empty_arrays, entries_of
from softlab.store.known_formats import format_named
from softlab.store.rows import Rows, layout_of
from softlab.store.sampled_rows import find_wrong_rows, sampled_layout
from softlab.store.shard_files import ShardFiles
from softlab.store.shard_rows import ShardRows
from softlab.store.unit_rows import UnitRows

MAX_DECODED_BYTES = 1 << 30
"""Of decoded shards in one reader's memory, all views and groups together; at least those of one view."""


class DecodedGroups:
    """Of one store; a group is what is read together, the arrays of one output. Where rows have entries, these and
    their counts are groups of their own, and are read with that of the rows."""

    def __init__(
        self,
        place: Place,
        manifest: Manifest,
        digest: str,
        *,
        name: str,
        cache: CacheOptions,
        units: Callable[[], UnitRows | None],
    ) -> None:
        """`units` tells which rows each sample has, where an output has units; it is asked when that is needed."""
        self.path, self.manifest, self.digest, self.name, self.cache = place, manifest, digest, name, cache
        self.format = format_named(manifest.storage.format)
        self.files = ShardFiles(place, manifest, self.format)
        self._stored = {
            field.group: layout_of(manifest.storage.fields_of(field.group)) for field in manifest.storage.fields
        }
        self._sampled = {
            manifest.group_of(output): sampled_layout(manifest, output)
            for output in manifest.classes
            if output.is_sampled
        }
        self.layouts = self._stored | {group: each.slots for group, each in self._sampled.items()}
        """As rows are read."""

        self._units = units
        self._entries: dict[tuple[str, int], UnitRows] = {}
        """Where the entries of each sample are, by group and view."""
        self._opened: dict[tuple[str, int], CachedRows | ShardRows] = {}
        """By group and view."""

    def take(self, group: str, view: int, store_B: StoreIndex) -> Rows:
        """The rows of some samples as they lie in the row cache, uint8 [R, row bytes]; rows that have entries with
        so many slots for them."""
        rows, sampled = self._take(group, view, store_B), self._sampled.get(group)
        if sampled is None:
            return rows
        units, own = self.units_of(group, view=view), f"{group}{ENTRIES}"
        try:
            return sampled.join(
                rows,
                self._take(own, view, store_B),
                rows_B=None if units is None else units.counts(store_B),
                entries_B=self._entries_of(own, view).counts(store_B),
            )
        except ValueError as error:
            raise DamagedStore(f"{self.name}: view {view} of {group}: {error}. Get the store again.") from error

    def begin(self, group: str, view: int, store_B: StoreIndex) -> None:
        """Fetch what `take` will ask for, and return at once; of a store on this machine nothing."""
        for each in self._with_entries(group):
            self.files.begin(self._missing(each, view, store_B), group=each)

    def _take(self, group: str, view: int, store_B: StoreIndex) -> Rows:
        rows = self._rows_of(group, view)
        if isinstance(self.path, Path):
            return rows.take(store_B)
        self.files.begin(rows.missing(store_B), group=group, first=True)  # all at once, then one after the other
        taken = rows.take(store_B)
        self.files.drop(self.manifest.grid.shards_of(store_B, view=view), group=group)
        return taken

    def _missing(self, group: str, view: int, store_B: StoreIndex) -> list[Shard]:
        """Shards of some rows that this machine doesn't have. Those of a view that can't be cached are not asked for
        in memory: to look there would make room, in place of a view that is still being read."""
        if (group, view) not in self._opened and self._bytes_when_decoded(group) > self.cache.max_bytes:
            return self.manifest.grid.shards_of(store_B, view=view)
        return self._rows_of(group, view).missing(store_B)

    def units_of(self, group: str, *, view: int = 0) -> UnitRows | None:
        """Where the rows of one group are; None where each sample has one. Entries are others in each view."""
        axis = self.manifest.axis_of(group)
        if axis == "entry":
            return self._entries_of(group, view)
        return self._units() if axis == "unit" else None

    def rows_in(self, shard: Shard, *, group: str) -> int:
        """Of one shard. How many entries it has is told by that shard alone, in any thread."""
        if self.manifest.axis_of(group) == "entry":
            name = entries_of(self.manifest, group)
            told = name.rpartition("/")[0]
            fields = self.manifest.storage.fields_of(told)
            counts = empty_arrays(fields, num_rows=shard.num_rows)
            self.read_into(counts, shard, group=told)
            return self._checked(int(counts[name].sum(dtype=np.int64)), group=group)
        units = self.units_of(group)
        return shard.num_rows if units is None else units.in_shard(shard)

    def _checked(self, num_entries: int, *, group: str) -> int:
        """Of a shard. Raises DamagedStore for more than it has room for."""
        most = self.manifest.shard_capacity(self.manifest.storage.fields_of(group)[0])
        if num_entries > most:
            raise DamagedStore(f"{self.name}: a shard of {group} has more than {most:,} entries. Get the store again.")
        return num_entries

    def bytes_when_decoded(self, group: str) -> int:
        """Of one group, and of entries, in all views: what a row cache of them takes."""
        return sum(map(self._bytes_when_decoded, self._with_entries(group)))

    def _with_entries(self, group: str) -> tuple[str, ...]:
        return (group, f"{group}{SAMPLES}", f"{group}{ENTRIES}") if group in self._sampled else (group,)

    def _entries_of(self, group: str, view: int) -> UnitRows:
        """Raises DamagedStore for more of them than a shard has room for, or than the manifest tells, by which room is
        made in the row cache. The counts of a whole view are small."""
        if (group, view) not in self._entries:
            name = entries_of(self.manifest, group)
            told = name.rpartition("/")[0]
            rows = self._take(told, view, StoreIndex(np.arange(self.manifest.source.num_samples)))
            entries = UnitRows(self._stored[told].columns(rows)[name].astype(np.int64))
            for part in self._parts:
                self._checked(entries.in_shard(self.manifest.grid.shard(view, part)), group=group)
            self._entries[group, view] = entries
            self._check_told(group)
        return self._entries[group, view]

    def _check_told(self, group: str) -> None:
        found = sum(entries.num_rows for (of, _), entries in self._entries.items() if of == group)
        if found > (told := self._num_rows(group)):
            raise DamagedStore(
                f"{self.name}: {group} has {found:,} entries or more, its manifest tells {told:,}. Get the store again."
            )

    @property
    def _parts(self) -> range:
        return range(self.manifest.grid.parts_per_view)

    def _bytes_when_decoded(self, group: str) -> int:
        return self._num_rows(group) * self._stored[group].row_bytes

    def _num_rows(self, group: str) -> int:
        """In all views."""
        if self.manifest.axis_of(group) == "entry":
            output = self.manifest.output_of_group(group)
            if isinstance(output, TokensReadRecord):
                samples = self.manifest.views.num_views * self.manifest.source.num_samples
                return samples * output.most if self.manifest.tokens is None else self.manifest.tokens.read
            told = self.manifest.statistics[output.name].entries
            assert told is not UNSET, "the manifest was checked"
            return told
        units = self.units_of(group)
        return self.manifest.views.num_views * (self.manifest.source.num_samples if units is None else units.num_rows)

    def read_into(self, arrays: Mapping[str, Array], shard: Shard, *, group: str) -> None:
        """What the manifest vouches for need not be what softlab wrote; nothing of it may reach other rows."""
        fields = self.manifest.storage.fields_of(group)
        files = self.files.read(shard, group=group)
        try:
            self.format.decode(self.manifest, shard, fields, files, arrays)
            problem = self._find_wrong_class(arrays) or self._find_wrong_outlier(arrays)
        except (ValueError, LookupError, OSError, RuntimeError) as error:  # whatever Blosc and Arrow raise
            problem = str(error)
        if problem is not None:
            raise DamagedStore(f"{self.name}: shard {shard.name} can't be decoded: {problem}. Get the store again.")

    def _rows_of(self, group: str, view: int) -> CachedRows | ShardRows:
        found = self._opened.get((group, view))
        if found is None:
            found = self._opened[group, view] = self._open_group(group, view)
            self._forget_oldest_shards()
        return found

    def _forget_oldest_shards(self) -> None:
        """An epoch of another view needs none of those of the view before."""
        uncached = {key: rows for key, rows in self._opened.items() if isinstance(rows, ShardRows)}
        excess = sum(rows.nbytes for rows in uncached.values()) - MAX_DECODED_BYTES
        for key, rows in list(uncached.items())[:-1]:
            if excess > 0:
                excess -= rows.nbytes
                del self._opened[key]

    def _open_group(self, group: str, view: int) -> CachedRows | ShardRows:
        layout = self._stored[group]

        def decode(shard: Shard, rows: Rows) -> None:
            self.read_into(layout.columns(rows), shard, group=group)
            layout.clear_padding(rows)

        grid = self.manifest.grid
        name = group.replace("/", "-")
        folder = cache_folder(self.cache, digest=self.digest, name=name, needed_bytes=self._bytes_when_decoded(group))
        units = self.units_of(group, view=view)
        if folder is None:
            return ShardRows(grid=grid, row_bytes=layout.row_bytes, decode=decode, view=view, units=units)
        return CachedRows(
            folder,
            name=name,
            grid=grid,
            row_bytes=layout.row_bytes,
            decode=decode,
            recorded=partial(self.files.recorded, group=group),
            view=view,
            units=units,
            check="none" if self.cache.check == "some" and not isinstance(self.path, Path) else self.cache.check,
        )

    def _find_wrong_class(self, arrays: Mapping[str, Array]) -> str | None:
        for output in self.manifest.outputs:
            if isinstance(output, ClassesRecord) and output.is_sampled:
                problem = find_wrong_rows(arrays, group=self.manifest.group_of(output))
                if problem is not None:
                    return problem
            if isinstance(output, TokensReadRecord):
                ids_E = arrays.get(f"{self.manifest.group_of(output)}{ENTRIES}/token_ids")
                if ids_E is not None and ids_E.size and int(ids_E.max()) >= output.vocabulary:
                    return f"token {int(ids_E.max())} of {output.vocabulary}"
        for output in self.manifest.classes:
            groups = self.manifest.groups_of(output)
            ids_RK = next((arrays[name] for group in groups if (name := f"{group}/class_ids") in arrays), None)
            if ids_RK is not None and ids_RK.size:
                highest, num_classes = int(ids_RK.max()), output.label_space.num_classes
                if highest >= num_classes:
                    return f"class {highest} of {num_classes}"
        return None

    def _find_wrong_outlier(self, arrays: Mapping[str, Array]) -> str | None:
        for output in self.manifest.values:
            group = self.manifest.group_of(output)
            ids = arrays.get(f"{group}/outlier_ids")
            if ids is not None and ids.size:
                highest, width = int(ids.max()), (arrays[f"{group}/values"].shape[1:] or (1,))[-1]
                if highest >= width:
                    return f"an outlier at place {highest} of {width}"
        return None
