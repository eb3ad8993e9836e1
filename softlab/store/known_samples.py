"""What is known of a store's samples before the shard that holds them is written."""

# Shape letters: N samples.

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from mmap import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlab.errors import DamagedStore
from softlab.identity import ContentHashes
from softlab.indices import RecipeIndex
from softlab.manifest import FileRecord, Manifest, StorePlan, begin, encode
from softlab.plain_files import MAX_TABLE_BYTES
from softlab.remote.remote import Place
from softlab.store.files import map_file, read_file, records_of
from softlab.store.folder import EXPECTED_SAMPLES, PLAN_NAME, read_begun
from softlab.store.place import files_at
from softlab.store.sample_columns import SampleColumns
from softlab.store.samples import SampleTable, decode_samples, encode_samples, has_content_hashes

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

    Nothing is kept in memory but the content hashes, and those only where there are any: keys and targets of a data set
    are needed before the first shard and after the last one, and would otherwise lie there for the whole dump.
    """

    def __init__(self, root: Place, plan: StorePlan, *, parent: Manifest | None) -> None:
        self._root, self._plan, self._parent = root, plan, parent

    def tables(self) -> Iterator[SampleTable] | None:
        """The same as `read`, a stretch at a time."""
        data = self._read_bytes()
        return None if data is None else self._tables(data)

    def _tables(self, data: bytes | mmap) -> Iterator[SampleTable]:
        with self._damage_told():
            yield from SampleColumns(data, num_samples=self._plan.source.num_samples).tables()

    def read(self) -> SampleTable | None:
        """The table as it was written down; its hashes are zeros where they aren't known. None where a dump was begun
        without one. Raises DamagedStore for another one."""
        data = self._read_bytes()
        return None if data is None else self._decode(data)

    def recipe_N(self) -> RecipeIndex | None:
        """As `SampleTable.recipe_N`; None too where a dump was begun without a table."""
        data = self._read_bytes()
        if data is None:
            return None
        with self._damage_told():
            return SampleColumns(data, num_samples=self._plan.source.num_samples).recipe_N()

    @cached_property
    def hashes_N16(self) -> NDArray[np.uint8] | None:
        """Content hashes, uint8 [N, 16], each all zeros where it isn't known; None where none is known."""
        data = self._read_bytes()
        if data is None or not self._has_content_hashes(data):
            return None
        return ContentHashes(self._decode(data).content_hashes).bytes_N16

    @cached_property
    def rows_N(self) -> NDArray[np.int64] | None:
        """How many rows each sample has in an output with units, int64 [N]; None without units, and where no view is
        finished."""
        table = None if self._parent is None or not self._plan.has_units else self.read()
        return None if table is None else table.rows_N

    def _read_bytes(self) -> bytes | mmap | None:
        if self._parent is not None:
            return _bytes_of(self._root, self._parent.samples_file)
        files = files_at(self._root)
        record = read_begun(self._root).samples_file if files.has(PLAN_NAME) else None
        if record is not None:
            return _bytes_of(self._root, record, next_step=REPEAT)
        return files.read(EXPECTED_SAMPLES, max_bytes=MAX_TABLE_BYTES)

    def _decode(self, data: bytes | mmap) -> SampleTable:
        with self._damage_told():
            return decode_samples(data, num_samples=self._plan.source.num_samples)

    def _has_content_hashes(self, data: bytes | mmap) -> bool:
        with self._damage_told():
            return has_content_hashes(data)

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
