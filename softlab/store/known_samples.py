"""What is known of a store's samples before the shard that holds them is written."""

# Shape letters: N samples.

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from mmap import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlab.errors import DamagedStore
from softlab.identity import CONTENT_HASH_BYTES
from softlab.indices import RecipeIndex
from softlab.manifest import FileRecord, Manifest, StorePlan, begin, encode
from softlab.plain_files import MAX_TABLE_BYTES
from softlab.remote.remote import Place
from softlab.shards import Shard, ShardGrid
from softlab.store.files import map_file, read_file, records_of
from softlab.store.folder import EXPECTED_SAMPLES, PLAN_NAME, read_begun
from softlab.store.place import files_at
from softlab.store.sample_columns import SampleColumns, SampleParts
from softlab.store.samples import (
    GROUP_ROWS,
    SampleTable,
    decode_samples,
    encode_samples,
    has_content_hashes,
    join_recipe,
    join_tables,
)

Parts = Sequence[tuple[bytes | mmap, int]]
"""The bytes of a table of samples, or of its parts, and how many samples each has."""

REPEAT = "Run the command that began this dump again: it writes that file anew."


def begun_files(plan: StorePlan, known: SampleTable | None) -> dict[str, bytes]:
    """What is written down before the first shard of a dump, in this order."""
    samples = {} if known is None else {EXPECTED_SAMPLES: encode_samples(known)}
    record = next(iter(records_of(samples)), None)
    return samples | {PLAN_NAME: encode(begin(plan, samples_file=record))}


def are_vouched_for(root: Place) -> bool:
    """Whether the samples of a dump under way are as they were written down."""
    record, files = read_begun(root).samples_file, files_at(root)
    if not files.locks:  # then each file is there as it was written, or not at all
        return record is not None and files.size(record.path) == record.bytes
    try:
        return record is not None and len(_bytes_of(root, record)) == record.bytes
    except DamagedStore:
        return False


class KnownSamples:
    """Of a store that views are added to all; else keys and targets, and content hashes where another store tells what
    they must be.

    Keys and targets of a data set are needed before the first shard and after the last one: they are read anew, and
    don't lie in memory for the whole dump.
    """

    def __init__(self, root: Place, plan: StorePlan, *, parent: Manifest | None) -> None:
        self._root, self._plan, self._parent = root, plan, parent
        self._held: tuple[int, NDArray[np.uint8]] | None = None
        """The content hashes of one stretch, and its number: shards come in order, or nearly so."""

    def read(self) -> SampleTable | None:
        """The table as it was written down; its hashes are zeros where they aren't known. None where a dump was begun
        without one. Raises DamagedStore for another one."""
        parts = self._read_parts()
        if parts is None:
            return None
        with self._damage_told():
            return join_tables([decode_samples(data, num_samples=num_rows) for data, num_rows in parts])

    def tables(self) -> Iterator[SampleTable] | None:
        """The same, a stretch at a time."""
        parts = self._read_parts()
        return None if parts is None else self._tables(parts)

    def _tables(self, parts: Parts) -> Iterator[SampleTable]:
        with self._damage_told():
            for data, num_rows in parts:
                yield from SampleColumns(data, num_samples=num_rows).tables()

    def recipe_N(self) -> RecipeIndex | None:
        """As `SampleTable.recipe_N`; None too where a dump was begun without a table."""
        parts = self._read_parts()
        if parts is None:
            return None
        with self._damage_told():
            return join_recipe([SampleColumns(data, num_samples=num_rows).recipe_N() for data, num_rows in parts])

    def hashes_between(self, start: int, stop: int) -> NDArray[np.uint8] | None:
        """Content hashes of these samples, uint8 [S, 16], each all zeros where it isn't known; None where none of the
        store is. No more than a stretch of GROUP_ROWS of them stays in memory."""
        if self._columns is None:
            return None
        numbers = range(start // GROUP_ROWS, -(-stop // GROUP_ROWS))
        found_S16 = np.concatenate([self._hashes_of_stretch(number) for number in numbers])
        skipped = start - numbers.start * GROUP_ROWS
        return found_S16[skipped : skipped + stop - start]

    def _hashes_of_stretch(self, number: int) -> NDArray[np.uint8]:
        held = self._held
        if held is None or held[0] != number:
            start = number * GROUP_ROWS
            stop = min(start + GROUP_ROWS, self._plan.source.num_samples)
            hashes_S16 = np.empty((stop - start, CONTENT_HASH_BYTES), dtype=np.uint8)
            assert self._columns is not None, "its caller has looked"
            with self._damage_told():
                self._columns.hashes_into(Shard(view=0, part=number, start=start, stop=stop), hashes_S16)
            self._held = held = (number, hashes_S16)
        return held[1]

    @cached_property
    def _columns(self) -> SampleParts | None:
        """None where no content hash is known."""
        parts = self._read_parts()
        if parts is None:
            return None
        with self._damage_told():
            if not any(has_content_hashes(data) for data, _ in parts):
                return None
        num_samples = self._plan.source.num_samples
        in_one = ShardGrid(num_views=1, num_samples=num_samples, shard_rows=num_samples)
        grid = in_one if self._parent is None else self._parent.samples_grid
        return SampleParts(grid, lambda part: SampleColumns(parts[part.part][0], num_samples=part.num_rows))

    @cached_property
    def rows_N(self) -> NDArray[np.int64] | None:
        """How many rows each sample has in an output with units, int64 [N]; None without units, and where no view is
        finished."""
        table = None if self._parent is None or not self._plan.has_units else self.read()
        return None if table is None else table.rows_N

    def _read_parts(self) -> Parts | None:
        if self._parent is not None:
            files = zip(self._parent.samples_files, self._parent.samples_grid, strict=True)
            return [(_bytes_of(self._root, file), part.num_rows) for file, part in files]
        data = self._read_begun()
        return None if data is None else [(data, self._plan.source.num_samples)]

    def _read_begun(self) -> bytes | mmap | None:
        files = files_at(self._root)
        record = read_begun(self._root).samples_file if files.has(PLAN_NAME) else None
        if record is not None:
            return _bytes_of(self._root, record, next_step=REPEAT)
        return files.read(EXPECTED_SAMPLES, max_bytes=MAX_TABLE_BYTES)

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise DamagedStore(f"{self._root / EXPECTED_SAMPLES}: {error}. {REPEAT}") from error


def _bytes_of(root: Place, record: FileRecord, *, next_step: str | None = None) -> bytes | mmap:
    """Of a table of samples. On this machine it is mapped, as it may be larger than the memory."""
    if isinstance(root, Path):
        return map_file(root, record, next_step=next_step)
    return read_file(root, record, next_step=next_step)
