"""How fast the rows of a store are read, against one np.take on a memory-mapped file of the same packed rows."""

# Shape letters: B rows in a batch.

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator

from softlab.bench.machine import open_on_disk, scratch_errors, scratch_folder
from softlab.bench.read_turns import (
    BATCH,
    BatchReads,
    FirstTouch,
    Read,
    StoreIndices,
    Turn,
    block_shuffled,
    draw_shards,
    random_rows,
    rows_in_order,
    rows_of_a_turn,
    shards_in_order,
)
from softlab.bench.timing import ROUNDS, OnTurn, rates
from softlab.shards import Shard
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store
from softlab.store.rows import Rows

MAX_PLAIN_BYTES = 2 << 30
WRITTEN_AT_ONCE_BYTES = 64 << 20

Order = Literal["random", "block-shuffled", "in order"]
Place = Literal["plain file", "row cache", "compressed shards", "first touch"]
Form = Literal["packed", "tensors"]
Way = tuple[Order, Place, Form]
FORMS = get_args(Form)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadRate:
    """How fast the rows of one group are read in one way."""

    group: str
    """`labels`, or `features/NAME`."""

    order: Order
    """Of the rows, in batches of 256. Block-shuffled: the shards in random order, and the rows within each too."""

    place: Place
    """Where the rows come from. `plain file` is the limit: np.take on a memory-mapped file of the same packed rows.
    `first touch` fills an empty row cache; the store's files are dropped from the page cache first, where the system
    can do that."""

    form: Form
    """packed: bytes, as one process hands them to another. tensors: ready for a loss."""

    rows_per_second: float
    """Median over rounds."""

    relative: float
    """`rows_per_second` divided by that of the plain file."""

    units_per_second: float | None = None
    """Of labels with a row for each unit, as a token: these rows. Then `rows_per_second` counts samples."""


class GroupReads:
    """One group of a store (the labels or a feature), and all the ways to read it."""

    def __init__(self, store: Store, group: str, scratch: Path, *, max_bytes: int, max_plain_bytes: int) -> None:
        """Writes the plain file, and reads through the row cache for it, which fills the cache."""
        self.name, self._store, self._scratch, self._max_bytes = group, store, scratch, max_bytes
        self._feature = None if group == "labels" else group.removeprefix("features/")
        self._row_bytes = store.row_bytes(self._feature)
        has_units = self._feature is None and store.labels.units
        self.units_per_row = store.rows_per_sample if has_units else None
        """In the mean; None without units."""
        decoded_bytes = store.num_views * store.num_samples * self._row_bytes
        self._fits_cache = decoded_bytes <= max_bytes
        self._num_rows = min(store.num_samples, max(max_plain_bytes // self._row_bytes, BATCH))
        self._warm = self._open_anew(scratch / "cache")
        self._plain: Rows = map_plain_rows(
            scratch / "plain.rows",
            self._warm,
            feature=self._feature,
            row_bytes=self._row_bytes,
            num_rows=self._num_rows,
        )

    def turns(self) -> dict[Way, Turn]:
        """Each way's turn. The limit, np.take on the plain file, comes first."""
        limit: dict[Way, Turn] = {
            ("random", "plain file", "packed"): BatchReads(open=lambda: self._take, draw=self._draw_random)
        }
        if not self._fits_cache:
            return limit | self._turns_in_shards()
        first_touch = FirstTouch(store=self._store, open=self._open_empty, draw=self._draw_shards)
        return (
            limit
            | self._turns_in_cache()
            | self._turns_in_shards()
            | {("in order", "first touch", "packed"): first_touch}
        )

    def _turns_in_cache(self) -> dict[Way, Turn]:
        turns: dict[Way, Turn] = {}
        for form in FORMS:
            warm = partial(self._reader, self._warm, form)
            turns["random", "row cache", form] = BatchReads(open=warm, draw=self._draw_random)
            if self._feature is None:
                turns["in order", "row cache", form] = BatchReads(open=warm, draw=self._draw_in_order)
        return turns

    def _turns_in_shards(self) -> dict[Way, Turn]:
        turns: dict[Way, Turn] = {}
        for form in FORMS:
            anew = partial(self._read_anew, form)
            if self._feature is None:
                turns["block-shuffled", "compressed shards", form] = BatchReads(
                    open=anew, draw=lambda generator: block_shuffled(generator, self._draw_shards(generator))
                )
            turns["in order", "compressed shards", form] = BatchReads(
                open=anew, draw=lambda generator: shards_in_order(self._draw_shards(generator))
            )
        return turns

    def _draw_random(self, generator: Generator) -> list[StoreIndices]:
        return random_rows(generator, num_rows=self._num_rows, count=self._rows_of_a_turn)

    def _draw_in_order(self, generator: Generator) -> list[StoreIndices]:
        return rows_in_order(generator, num_rows=self._num_rows, count=self._rows_of_a_turn)

    def _draw_shards(self, generator: Generator) -> list[Shard]:
        return draw_shards(generator, grid=self._store.manifest.grid, num_rows=self._num_rows)

    @property
    def _rows_of_a_turn(self) -> int:
        return rows_of_a_turn(self._row_bytes, num_rows=self._num_rows)

    def _take(self, store_B: StoreIndices) -> Rows:
        rows: Rows = self._plain.take(store_B, axis=0)
        return rows

    def _reader(self, store: Store, form: Form) -> Read:
        if form == "packed":
            return partial(store.read_packed, feature=self._feature)
        return store.read if self._feature is None else partial(store.read_features, self._feature)

    def _read_anew(self, form: Form) -> Read:
        """From a store of which no shard is decoded yet: each is read, verified and decoded in the turn."""
        return self._reader(self._open_anew(None), form)

    def _open_anew(self, cache: Path | None) -> Store:
        options = CacheOptions(dir=cache, max_bytes=0 if cache is None else self._max_bytes)
        return Store(self._store.path, self._store.manifest, self._store.digest, cache=options)

    def _open_empty(self) -> Read:
        """Through a row cache that holds nothing yet."""
        shutil.rmtree(self._scratch / "cold", ignore_errors=True)
        return self._reader(self._open_anew(self._scratch / "cold"), "packed")


def measure_reading(
    path: str | Path,
    *,
    rounds: int = ROUNDS,
    cache: CacheOptions | None = None,
    max_plain_bytes: int = MAX_PLAIN_BYTES,
    on_turn: OnTurn | None = None,
) -> list[ReadRate]:
    """The rates of the labels and of each feature, in the store's first view; all ways of a group take turns.

    If a plain file of all rows would be larger than `max_plain_bytes`, only the first rows are read. The plain file and
    a row cache of its own lie in a temporary folder inside the folder of `cache`; rows that are cached there already
    are not touched. A group that is larger than `cache` allows once it is decoded is read from compressed shards only.
    Raises as `open_on_disk`, and StoreWriteFailed.
    """
    cache = cache or CacheOptions()
    store = open_on_disk(path, cache=cache)
    found: list[ReadRate] = []
    with scratch_folder(cache.folder) as folder:
        for group in [*(["labels"] if store.has_labels else []), *(f"features/{name}" for name in store.feature_names)]:
            scratch = folder / group
            scratch.mkdir(parents=True)
            measured = GroupReads(store, group, scratch, max_bytes=cache.max_bytes, max_plain_bytes=max_plain_bytes)
            found += _measure(measured, rounds=rounds, on_turn=on_turn)
            shutil.rmtree(scratch, ignore_errors=True)
    return found


def _measure(group: GroupReads, *, rounds: int, on_turn: OnTurn | None) -> list[ReadRate]:
    ways = {", ".join(way): (way, turn) for way, turn in group.turns().items()}
    found = rates(
        {name: turn.run for name, (_, turn) in ways.items()},
        rounds=rounds,
        before={name: turn.prepare for name, (_, turn) in ways.items()},
        on_turn=None if on_turn is None else lambda name, done, total: on_turn(f"{group.name}: {name}", done, total),
    )
    limit = next(iter(found.values()))
    return [
        ReadRate(
            group=group.name,
            order=order,
            place=place,
            form=form,
            rows_per_second=found[name],
            relative=found[name] / limit,
            units_per_second=None if group.units_per_row is None else found[name] * group.units_per_row,
        )
        for name, ((order, place, form), _) in ways.items()
    ]


def map_plain_rows(path: Path, store: Store, *, feature: str | None, row_bytes: int, num_rows: int) -> Rows:
    """The first packed rows of the labels, or of one feature, in the store's first view: written to a plain file, which
    is mapped into memory. Raises StoreWriteFailed."""
    grid = store.manifest.grid
    step = max(WRITTEN_AT_ONCE_BYTES // (row_bytes * grid.shard_rows), 1) * grid.shard_rows
    with scratch_errors(path), path.open("xb") as file:
        for start in range(0, num_rows, step):
            rows = store.read_packed(np.arange(start, min(start + step, num_rows)), feature=feature)
            file.write(np.ascontiguousarray(rows).data)
    return np.memmap(path, dtype=np.uint8, mode="r", shape=(num_rows, row_bytes))
