"""What a peer is: some library or plain format that keeps label rows on disk and gives them back in batches."""

# Shape letters: N rows kept, B rows in a batch, R bytes of a packed row.

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlab.bench.read_turns import BATCH
from softlab.bench.read_turns import StoreIndices as Numbers
from softlab.store.rows import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """The same labels for every peer."""

    rows_NR: Rows

    zarr_store: Path
    """softlab's store of all of them, in Zarr."""

    parquet_store: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """Ways to read what a peer has prepared. Each batch is one array of packed rows, as a training step needs it."""

    files: tuple[Path, ...]
    """What it keeps on disk: files, or folders of them."""

    sequential: Callable[[], Iterator[Rows]]
    """One pass in the order of the rows."""

    random: Callable[[Numbers], Rows] | None = None
    """Any rows, in the order asked for."""

    shuffled: Callable[[], Iterator[tuple[Numbers, Rows]]] | None = None
    """One pass in an order of the peer's own, where it can't read any rows; with the number of each row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """One line of the table."""

    name: str
    how: str
    """How rows are stored and read."""

    prepare: Callable[[Path, Given], Reader]
    """Writes the rows into an empty folder. Raises ImportError where the peer's package isn't installed."""

    package: str | None = None
    """Whose version the table names."""

    max_rows: int | None = None
    """Of a peer that needs long to write."""


def in_sequence(num_rows: int) -> Iterator[Numbers]:
    """Row numbers of one pass, batch by batch."""
    for start in range(0, num_rows, BATCH):
        yield np.arange(start, min(start + BATCH, num_rows))
