"""softlab against what else can hold labels: the same packed rows in each peer, read in batches by one process.

zarr, pyarrow and torch come with softlab; a peer that isn't installed is a line that says so. The others:

    pip install litdata webdataset pylance datasets
    pip install --no-deps mosaicml-streaming transformers tokenizers regex catalogue zstd python-snappy cramjam Brotli

MosaicML streaming 0.13 asks for numpy below 2.2 and transformers below 5, which don't go with the other peers; it runs
without these bounds, so its dependencies are named one by one. Keep all of them out of an environment that matters.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np

from softlab.bench.read_turns import BATCH
from softlab.bench.read_turns import StoreIndices as Numbers
from softlab.bench.timing import rates
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from tests.benchmarks.peers.formats import FORMATS
from tests.benchmarks.peers.own import LIMIT, OWN
from tests.benchmarks.peers.peer import Given, Peer, Reader
from tests.benchmarks.peers.streams import STREAMS
from tests.benchmarks.peers.tables import TABLES
from tests.benchmarks.report import Report
from tests.benchmarks.stores import write_synthetic_store

PEERS = [*OWN, *FORMATS, *TABLES, *STREAMS]
BATCHES = 400
TURN_S = 0.15
QUIET_S, MOST_QUIET_S = 0.05, 5.0
CHECKED_BATCHES = 16


def bench_peers(report: Report, folder: Path, *, num_samples: int, rounds: int) -> None:
    """K = 16 of 1,000 classes, float16."""
    given = write_given(folder / "peers", num_samples=num_samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a peer warns of is not ours to mend
        prepared = {peer.name: prepare(peer, folder / "peers", given) for peer in PEERS}
        readers = {name: reader for name, reader in prepared.items() if isinstance(reader, Reader)}
        ways = _ways(readers, given)
        found = rates(ways, rounds=rounds, before=dict.fromkeys(ways, wait_for_quiet))
    report.section(
        "Peers",
        f"{num_samples:,} rows of {given.rows_NR.shape[1]} bytes, K = 16 of 1,000 classes, in batches of {BATCH} that "
        "end as one array; rows per second, and relative to one np.take on a memory-mapped file. One process, no "
        "workers, files in the page cache; what each peer gave was compared with the rows before.",
        ["peer", "how", "rows", "random", "relative", "in sequence", "relative", "bytes a row"],
        [_line(peer, prepared[peer.name], given, found) for peer in PEERS],
    )


def write_given(folder: Path, *, num_samples: int) -> Given:
    """Synthetic labels as softlab's stores and as packed rows."""
    folder.mkdir()
    zarr_store = write_synthetic_store(folder / "labels.zarr", form="zarr", num_samples=num_samples)
    parquet_store = write_synthetic_store(folder / "labels.parquet", form="parquet", num_samples=num_samples)
    rows_NR = open_store(zarr_store, cache=CacheOptions(max_bytes=0)).read_packed(np.arange(num_samples))
    return Given(rows_NR=rows_NR, zarr_store=zarr_store, parquet_store=parquet_store)


def prepare(peer: Peer, folder: Path, given: Given) -> Reader | str:
    """A reader that gives back the rows it was given, or why there is none."""
    own = folder / peer.name.replace(" ", "-")
    own.mkdir()
    rows_NR = given.rows_NR[: peer.max_rows]
    try:
        reader = peer.prepare(own, replace(given, rows_NR=rows_NR))
    except ImportError as error:
        return f"not installed ({error})"
    check(reader, given, num_rows=len(rows_NR))
    return reader


def check(reader: Reader, given: Given, *, num_rows: int) -> None:
    """Raises AssertionError where some batches of a reader aren't the rows asked for."""
    start = 0
    for rows_BR in islice(reader.sequential(), CHECKED_BATCHES):
        np.testing.assert_array_equal(rows_BR, given.rows_NR[start : start + len(rows_BR)])
        start += len(rows_BR)
    assert start == min(num_rows, CHECKED_BATCHES * BATCH)
    if reader.random is not None:
        source_B = _random_order(num_rows)[0]
        np.testing.assert_array_equal(reader.random(source_B), given.rows_NR[source_B])
    if reader.shuffled is not None:
        for source_B, rows_BR in islice(reader.shuffled(), CHECKED_BATCHES):
            np.testing.assert_array_equal(rows_BR, given.rows_NR[source_B])


class Turns:
    """Reads batches for a short turn whenever it is called. A pass goes on where the last turn left it, so that what
    it costs to start one is paid as often as in a real pass."""

    def __init__(self, start_pass: Callable[[], Iterator[Sized]], *, seconds: float = TURN_S) -> None:
        self._start_pass, self._seconds = start_pass, seconds
        self._batches = start_pass()

    def __call__(self) -> int:
        stop, num_rows = time.perf_counter() + self._seconds, 0
        while num_rows == 0 or time.perf_counter() < stop:
            batch = next(self._batches, None)
            if batch is None:
                self._batches = self._start_pass()
            else:
                num_rows += len(batch)
        return num_rows


def wait_for_quiet() -> None:
    """Until nothing more is read ahead: what a peer's threads still do would be taken from the next one's turn."""
    stop = time.perf_counter() + MOST_QUIET_S
    while time.perf_counter() < stop:
        before = time.process_time()
        time.sleep(QUIET_S)
        if time.process_time() - before < QUIET_S / 10:
            return


def _ways(readers: dict[str, Reader], given: Given) -> dict[str, Callable[[], int]]:
    ways: dict[str, Callable[[], int]] = {}
    limits = {peer.name: peer.max_rows for peer in PEERS}
    for name, reader in readers.items():
        order = _random_order(len(given.rows_NR[: limits[name]]))
        ways[f"{name}, random"] = Turns(partial(_random_pass, reader, order))
        ways[f"{name}, in sequence"] = Turns(reader.sequential)
    return ways


def _random_pass(reader: Reader, order: Numbers) -> Iterator[Sized]:
    if reader.random is not None:
        return map(reader.random, order)
    assert reader.shuffled is not None
    return (rows_BR for _, rows_BR in reader.shuffled())


def _random_order(num_rows: int) -> Numbers:
    return np.random.default_rng(0).integers(0, num_rows, (BATCHES, BATCH))


def _line(peer: Peer, prepared: Reader | str, given: Given, found: dict[str, float]) -> Sequence[str]:
    if isinstance(prepared, str):
        return [peer.name, prepared, "", "", "", "", "", ""]
    num_rows = len(given.rows_NR[: peer.max_rows])
    cells = []
    for way in ("random", "in sequence"):
        rate = found[f"{peer.name}, {way}"]
        cells += [f"{rate:,.0f}", f"{rate / found[f'{LIMIT.name}, {way}']:.2g}"]
    named = f"{peer.name} {version(peer.package)}" if peer.package else peer.name
    return [named, peer.how, f"{num_rows:,}", *cells, f"{_bytes_of(prepared.files) / num_rows:,.1f}"]


def _bytes_of(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for root in files for path in [root, *root.rglob("*")] if path.is_file())
