"""One group of a store, its labels or a feature, and all the ways to read it that are measured."""

# Shape letters: B rows in a batch.

import shutil
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from numpy.random import Generator

from softlab.bench.plain_rows import map_plain_rows
from softlab.bench.read_turns import Batches, FirstTouch, Read, Turn
from softlab.bench.row_orders import (
    BATCH,
    Numbers,
    block_shuffled,
    draw_shards,
    random_rows,
    rows_in_order,
    rows_of_a_turn,
    shards_in_order,
)
from softlab.shards import Shard
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store
from softlab.store.rows import Rows, layout_of

Order = Literal["random", "block-shuffled", "in order"]
Place = Literal["plain file", "row cache", "compressed shards", "first touch"]
Form = Literal["packed", "tensors"]
Kind = tuple[Order, Place, Form]
FORMS = get_args(Form)


class GroupReads:
    """One group of a store, and all the ways to read it."""

    def __init__(self, store: Store, group: str, scratch: Path, *, max_bytes: int, max_plain_bytes: int) -> None:
        self.name, self._store, self._scratch, self._max_bytes = group, store, scratch, max_bytes
        self._feature = None if group == "labels" else group.removeprefix("features/")
        self._row_bytes = layout_of(store.manifest.storage.fields_of(group)).row_bytes
        decoded_bytes = store.num_views * store.num_samples * self._row_bytes
        self._fits_cache = decoded_bytes <= max_bytes
        self._num_rows = min(store.num_samples, max(max_plain_bytes // self._row_bytes, BATCH))
        # Through its row cache where there is one, which is filled by this.
        self._warm = self._open_anew(scratch / "cache")
        self._plain: Rows = map_plain_rows(
            scratch / "plain.rows",
            self._warm,
            feature=self._feature,
            row_bytes=self._row_bytes,
            num_rows=self._num_rows,
        )

    def turns(self) -> dict[Kind, Turn]:
        """By order, place and form; the limit comes first."""
        count, grid = rows_of_a_turn(self._row_bytes, num_rows=self._num_rows), self._store.manifest.grid
        randomly = partial(random_rows, num_rows=self._num_rows, count=count)
        in_order = partial(rows_in_order, num_rows=self._num_rows, count=count)

        def shards(generator: Generator) -> list[Shard]:
            return draw_shards(generator, grid=grid, num_rows=self._num_rows)

        turns: dict[Kind, Turn] = {}
        turns["random", "plain file", "packed"] = Batches(open=lambda: self._take, draw=randomly)
        for form in FORMS if self._fits_cache else ():
            warm = partial(self._reader, self._warm, form)
            turns["random", "row cache", form] = Batches(open=warm, draw=randomly)
            if self._feature is None:
                turns["in order", "row cache", form] = Batches(open=warm, draw=in_order)
        for form in FORMS:
            anew = partial(self._read_anew, form)
            if self._feature is None:
                turns["block-shuffled", "compressed shards", form] = Batches(
                    open=anew, draw=lambda generator: block_shuffled(generator, shards(generator))
                )
            turns["in order", "compressed shards", form] = Batches(
                open=anew, draw=lambda generator: shards_in_order(shards(generator))
            )
        if self._fits_cache:
            turns["in order", "first touch", "packed"] = FirstTouch(
                store=self._store, open=self._open_empty, draw=shards
            )
        return turns

    def _take(self, numbers_B: Numbers) -> Rows:
        rows: Rows = self._plain.take(numbers_B, axis=0)
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
        """Into a row cache that holds nothing."""
        shutil.rmtree(self._scratch / "cold", ignore_errors=True)
        return self._reader(self._open_anew(self._scratch / "cold"), "packed")
