"""What reading is compared with: the same packed rows in a plain file, mapped into memory and gathered by np.take."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from softlab.errors import StoreWriteFailed
from softlab.store.reader import Store
from softlab.store.rows import Rows

MAX_PLAIN_BYTES = 2 << 30
WRITTEN_AT_ONCE_BYTES = 64 << 20


def map_plain_rows(path: Path, store: Store, *, feature: str | None, row_bytes: int, num_rows: int) -> Rows:
    """The first rows of a store's first view, labels or one feature, written to a file and mapped; raises
    StoreWriteFailed."""
    grid = store.manifest.grid
    step = max(WRITTEN_AT_ONCE_BYTES // (row_bytes * grid.shard_rows), 1) * grid.shard_rows
    with _disk_errors(path), path.open("xb") as file:
        for start in range(0, num_rows, step):
            rows = store.read_packed(np.arange(start, min(start + step, num_rows)), feature=feature)
            file.write(np.ascontiguousarray(rows).data)
    return np.memmap(path, dtype=np.uint8, mode="r", shape=(num_rows, row_bytes))


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A folder on the same disk as the row cache, gone afterwards; raises StoreWriteFailed."""
    with _disk_errors(beside):
        beside.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix="bench-", dir=beside, ignore_cleanup_errors=True)
    with scratch as name:
        yield Path(name)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreWriteFailed(
            f"{path}: can't be written: {error.strerror}. Make room, or choose another --cache-dir."
        ) from error
