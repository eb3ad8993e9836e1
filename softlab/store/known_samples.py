"""What is known of a store's samples before the shard that holds them is written."""

# Shape letters: N samples.

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlab.disk import read_whole
from softlab.identity import ContentHashes
from softlab.manifest import Manifest, StorePlan
from softlab.plain_files import MAX_TABLE_BYTES
from softlab.store.files import read_file
from softlab.store.folder import EXPECTED_SAMPLES
from softlab.store.samples import SampleTable, decode_samples, has_content_hashes


class KnownSamples:
    """Of a store that views are added to all; else keys and targets, and content hashes where another store tells what
    they must be.

    Nothing is kept in memory but the content hashes, and those only where there are any: keys and targets of a data set
    are needed before the first shard and after the last one, and would otherwise lie there for the whole dump.
    """

    def __init__(self, root: Path, plan: StorePlan, *, parent: Manifest | None) -> None:
        self._root, self._plan, self._parent = root, plan, parent

    def read(self) -> SampleTable | None:
        """The table as it was written down; its hashes are zeros where they aren't known. None where a dump was begun
        without one."""
        data = self._read_bytes()
        return None if data is None else decode_samples(data, num_samples=self._plan.source.num_samples)

    @cached_property
    def hashes_N16(self) -> NDArray[np.uint8] | None:
        """Content hashes, uint8 [N, 16], each all zeros where it isn't known; None where none is known."""
        data = self._read_bytes()
        if data is None or not has_content_hashes(data):
            return None
        table = decode_samples(data, num_samples=self._plan.source.num_samples)
        return ContentHashes(table.content_hashes).bytes_N16

    @cached_property
    def rows_N(self) -> NDArray[np.int64] | None:
        """How many rows each sample has in an output with units, int64 [N]; None without units, and where no view is
        finished."""
        table = None if self._parent is None or not self._plan.has_units else self.read()
        return None if table is None else table.rows_N

    def _read_bytes(self) -> bytes | None:
        path = self._root / EXPECTED_SAMPLES
        if self._parent is not None:
            return read_file(self._root, self._parent.samples_file)
        return read_whole(path, max_bytes=MAX_TABLE_BYTES)
