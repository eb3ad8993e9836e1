"""The columns of a large `samples.parquet`, of which no more is in memory than is looked at."""

# Shape letters: N samples, S of one stretch, B of those asked for.

from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlab.foreign_parquet import ForeignParquet
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import RecipeIndex, StoreIndex
from softlab.keys import Keys
from softlab.shards import Shard, ShardGrid
from softlab.store.rows import Rows
from softlab.store.samples import (
    BLOCK_ROWS,
    GROUP_ROWS,
    RECIPE_INDEX,
    ROWS,
    SampleTable,
    check_table,
    decode_hashes,
    decode_keys,
    decode_recipe_indices,
    join_recipe,
    join_tables,
)

Part = TypeVar("Part", Keys, NDArray[Any])

HELD_BYTES = 64 << 20
"""Of keys that are given at a time, if they are very long."""


class SampleColumns:
    """Of the bytes of a table, whose hash was compared. Raises ValueError, in every method, for what `encode_samples`
    can't have written."""

    def __init__(self, data: bytes | mmap, *, num_samples: int) -> None:
        self._file = ForeignParquet(data)
        self._longest = check_table(self._file, data, num_samples=num_samples)
        self.num_samples = num_samples

    def keys(self) -> Iterator[Keys]:
        """All of them, some at a time: many small ones together, as whoever looks at them pays for each part."""
        held: list[Keys] = []
        num_rows = num_bytes = 0
        for block in decode_keys(self._file, longest=self._longest):
            held.append(block)
            num_rows, num_bytes = num_rows + len(block), num_bytes + block.to_arrow().nbytes
            if num_rows >= BLOCK_ROWS or num_bytes >= HELD_BYTES:
                yield Keys.join(held)
                held, num_rows, num_bytes = [], 0, 0
        if held:
            yield Keys.join(held)

    def tables(self) -> Iterator[SampleTable]:
        """All columns, GROUP_ROWS samples at a time. Targets are -1 where unknown."""
        names, recipe_N = self._file.schema.names, self.recipe_N()
        keys, hashes = _Parts(self.keys(), Keys.join), _Parts(self._blocks_of_hashes(), _joined)
        targets = _Parts(self._blocks_of("target"), _joined)
        rows = _Parts(self._blocks_of(ROWS.name), _joined) if ROWS.name in names else None
        for stretch in stretches(self.num_samples):
            yield SampleTable(
                keys=keys.take(stretch.num_rows),
                targets_N=targets.take(stretch.num_rows),
                content_hashes=ContentHashes.from_bytes(hashes.take(stretch.num_rows)),
                recipe_N=None if recipe_N is None else RecipeIndex(recipe_N[stretch.start : stretch.stop]),
                rows_N=None if rows is None else rows.take(stretch.num_rows),
            )

    def _blocks_of(self, column: str) -> Iterator[NDArray[np.int64]]:
        for block in self._file.blocks(column, rows=BLOCK_ROWS):
            yield block.fill_null(-1).to_numpy()

    def _blocks_of_hashes(self) -> Iterator[NDArray[np.uint8]]:
        for block in self._file.blocks("content_hash", rows=BLOCK_ROWS):
            yield np.frombuffer(decode_hashes(block), dtype=np.uint8).reshape(-1, CONTENT_HASH_BYTES)

    def recipe_N(self) -> RecipeIndex | None:
        """As `SampleTable.recipe_N`."""
        return decode_recipe_indices(self._file) if RECIPE_INDEX.name in self._file.schema.names else None

    def take(self, store_B: StoreIndex) -> SampleTable:
        """Keys, hard targets and content hashes of a few samples, in the order asked for."""
        starts, columns = self._starts(), ["key", "target", "content_hash"]
        rows: list[dict[str, Any]] = [{} for _ in store_B]
        group_B = np.searchsorted(starts, store_B, side="right") - 1
        for number in np.unique(group_B).tolist():
            group = self._file.read_group(number, columns)
            for place in np.flatnonzero(group_B == number).tolist():
                (rows[place],) = group.slice(int(store_B[place] - starts[number]), 1).to_pylist()
        targets_B = np.array([-1 if row["target"] is None else row["target"] for row in rows], dtype=np.int64)
        return SampleTable(
            keys=[row["key"] for row in rows],
            targets_N=targets_B if (targets_B >= 0).any() else None,
            content_hashes=[row["content_hash"] for row in rows],
        )

    def hashes(self) -> Iterator[NDArray[np.uint8]]:
        """All content hashes in their order, some at a time, uint8 [S, 16]."""
        for number in range(self._file.metadata.num_row_groups):
            yield self._hashes_of_group(number)

    def hashes_into(self, stretch: Shard, rows_S16: Rows) -> None:
        """The content hashes of the samples of one stretch."""
        starts = self._starts()
        first, last = np.searchsorted(starts, [stretch.start, stretch.stop - 1], side="right") - 1
        parts = [self._hashes_of_group(number) for number in range(int(first), int(last) + 1)]
        here = stretch.start - int(starts[first])
        rows_S16[:] = np.concatenate(parts)[here : here + stretch.num_rows]

    def _hashes_of_group(self, number: int) -> NDArray[np.uint8]:
        column = self._file.read_group(number, ["content_hash"]).column(0)
        data = b"".join(decode_hashes(chunk) for chunk in column.chunks)
        return np.frombuffer(data, dtype=np.uint8).reshape(-1, CONTENT_HASH_BYTES)

    def _starts(self) -> NDArray[np.int64]:
        """Of the row groups."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        return np.cumsum([0, *sizes])[:-1]


class SampleParts:
    """The same of a table that lies in several files, each of which is opened when it is first looked at."""

    def __init__(self, grid: ShardGrid, open_part: Callable[[Shard], SampleColumns]) -> None:
        self._grid, self._open = grid, open_part
        self._opened: dict[int, SampleColumns] = {}
        self.num_samples = grid.num_samples

    def keys(self) -> Iterator[Keys]:
        """As `SampleColumns.keys`."""
        for part in self._grid:
            yield from self._part(part).keys()

    def tables(self) -> Iterator[SampleTable]:
        """As `SampleColumns.tables`; each part begins with a stretch of its own."""
        for part in self._grid:
            yield from self._part(part).tables()

    def recipe_N(self) -> RecipeIndex | None:
        """As `SampleTable.recipe_N`."""
        return join_recipe([self._part(part).recipe_N() for part in self._grid])

    def take(self, store_B: StoreIndex) -> SampleTable:
        """As `SampleColumns.take`."""
        if not len(store_B):
            return SampleTable(keys=[], targets_N=None, content_hashes=[])
        part_B = store_B // self._grid.shard_rows
        parts = [self._grid.shard(0, number) for number in np.unique(part_B).tolist()]
        places = [np.flatnonzero(part_B == part.part) for part in parts]
        table = join_tables(
            [
                self._part(part).take(StoreIndex(store_B[own] - part.start))
                for part, own in zip(parts, places, strict=True)
            ]
        )
        order_B = np.argsort(np.concatenate(places))
        return SampleTable(
            keys=Keys(table.keys).take(order_B),
            targets_N=None if table.targets_N is None else table.targets_N[order_B],
            content_hashes=ContentHashes.from_bytes(ContentHashes(table.content_hashes).bytes_N16[order_B]),
        )

    def hashes(self) -> Iterator[NDArray[np.uint8]]:
        """As `SampleColumns.hashes`."""
        for part in self._grid:
            yield from self._part(part).hashes()

    def hashes_into(self, stretch: Shard, rows_S16: Rows) -> None:
        """As `SampleColumns.hashes_into`."""
        first, last = stretch.start // self._grid.shard_rows, (stretch.stop - 1) // self._grid.shard_rows
        for number in range(first, last + 1):
            part = self._grid.shard(0, number)
            start, stop = max(stretch.start, part.start), min(stretch.stop, part.stop)
            own = Shard(view=0, part=stretch.part, start=start - part.start, stop=stop - part.start)
            self._part(part).hashes_into(own, rows_S16[start - stretch.start : stop - stretch.start])

    def _part(self, part: Shard) -> SampleColumns:
        if part.part not in self._opened:
            self._opened[part.part] = self._open(part)
        return self._opened[part.part]


class _Parts(Generic[Part]):
    """A column that comes in parts of any sizes, to be taken in others."""

    def __init__(self, parts: Iterator[Part], join: Callable[[list[Part]], Part]) -> None:
        self._parts: Iterator[Part] = parts
        self._join: Callable[[list[Part]], Part] = join
        self._left: Part | None = None

    def take(self, count: int) -> Part:
        """The next ones. Raises ValueError where there aren't so many."""
        taken: list[Part] = []
        while count:
            part = next(self._parts, None) if self._left is None else self._left
            if part is None:
                raise ValueError("one of its columns ends before the others")
            taken.append(part[:count])
            self._left = part[count:] if len(part) > count else None
            count -= min(len(part), count)
        return self._join(taken)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts)


def stretches(num_samples: int) -> ShardGrid:
    """In which content hashes are decoded and kept: the row groups of a table that softlab wrote."""
    return ShardGrid(num_views=1, num_samples=num_samples, shard_rows=GROUP_ROWS)
