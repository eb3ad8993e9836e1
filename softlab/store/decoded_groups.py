"""The arrays of a store, decoded shard by shard as rows are asked for: into the row cache, or into memory."""

# Shape letters: B samples asked for, R rows of an output.

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from softlab.errors import DamagedStore
from softlab.indices import StoreIndex
from softlab.manifest import Manifest
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.cache import CachedRows, CacheOptions, cache_folder
from softlab.store.format import Array
from softlab.store.known_formats import format_named
from softlab.store.rows import Rows, layout_of
from softlab.store.shard_files import ShardFiles
from softlab.store.shard_rows import ShardRows
from softlab.store.unit_rows import UnitRows

MAX_DECODED_BYTES = 1 << 30
"""Of decoded shards in one reader's memory, all views and groups together; at least those of one view."""


class DecodedGroups:
    """Of one store; a group is what is read together, the arrays of one output."""

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
        self.layouts = {
            field.group: layout_of(manifest.storage.fields_of(field.group)) for field in manifest.storage.fields
        }
        self._units = units
        self._opened: dict[tuple[str, int], CachedRows | ShardRows] = {}
        """By group and view."""

    def take(self, group: str, view: int, store_B: StoreIndex) -> Rows:
        """The rows of some samples as they lie in the row cache, uint8 [R, row bytes]."""
        rows = self._rows_of(group, view)
        if isinstance(self.path, Path):
            return rows.take(store_B)
        self.files.begin(rows.missing(store_B), group=group, first=True)  # all at once, then one after the other
        taken = rows.take(store_B)
        self.files.drop(self.manifest.grid.shards_of(store_B, view=view), group=group)
        return taken

    def missing(self, group: str, view: int, store_B: StoreIndex) -> list[Shard]:
        """Shards of some rows that this machine doesn't have. Those of a view that can't be cached are not asked for
        in memory: to look there would make room, in place of a view that is still being read."""
        if (group, view) not in self._opened and self.bytes_when_decoded(group) > self.cache.max_bytes:
            return self.manifest.grid.shards_of(store_B, view=view)
        return self._rows_of(group, view).missing(store_B)

    def units_of(self, group: str) -> UnitRows | None:
        """Where the rows of one group are; None where each sample has one."""
        if not self.manifest.has_units:
            return None
        output = next(each for each in self.manifest.outputs if self.manifest.group_of(each) == group)
        return self._units() if output.units else None

    def bytes_when_decoded(self, group: str) -> int:
        """Of one group in all views: what a row cache of it takes."""
        units = self.units_of(group)
        num_rows = self.manifest.source.num_samples if units is None else units.num_rows
        return self.manifest.views.num_views * num_rows * self.layouts[group].row_bytes

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
        layout = self.layouts[group]

        def decode(shard: Shard, rows: Rows) -> None:
            self.read_into(layout.columns(rows), shard, group=group)
            layout.clear_padding(rows)

        grid = self.manifest.grid
        name = group.replace("/", "-")
        folder = cache_folder(self.cache, digest=self.digest, name=name, needed_bytes=self.bytes_when_decoded(group))
        units = self.units_of(group)
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
        for output in self.manifest.classes:
            ids_RK = arrays.get(f"{self.manifest.group_of(output)}/class_ids")
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
