"""Rows that are samples of their distributions: as many entries as each has on disk, and so many slots when read.

rows of the store       num_head  num_drawn      entries, one row behind the other
0                       1         2              318  77 903
1                       2         0              12 5
gaps, `gaps_first`                               4  0 0 0 0       of the 5: row 1 alone has two classes in its head

as they are read, with K = 4 slots
0                       1         2              318  77 903   0
1                       2         0               12   5   0   0
"""

# Shape letters: R rows, E entries of all of them, K slots of a row.

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.labels.sampled_arrays import ENTRY_ARRAYS, GAPS, SAMPLE_ARRAYS, TAIL_STEPS, token_dtype
from softlab.manifest import ENTRIES, SAMPLES, ClassesRecord, StorePlan, TokensReadRecord
from softlab.store.format import Array
from softlab.store.rows import RowLayout, Rows, layout_of


@dataclass(frozen=True, slots=True)
class SampledLayout:
    """How the packed rows of one output are put together of what is stored."""

    rows: RowLayout
    entries: RowLayout
    slots: RowLayout
    """The arrays of both, those of entries with K numbers a row."""

    k: int
    gaps_first: bool
    """Of each sample."""

    def join(
        self, rows: Rows, entries: Rows, *, rows_B: NDArray[np.int64] | None, entries_B: NDArray[np.int64]
    ) -> Rows:
        """uint8 [R, slot bytes]; slots without an entry are 0. `rows_B` and `entries_B` are how many each sample has,
        None for one row each. Raises ValueError where the rows of a sample don't have so many entries."""
        stored, own = self.rows.columns(rows), self.entries.columns(entries)
        group = self.rows.fields[0].group
        counts_R = stored[f"{group}/num_head"].astype(np.int64) + stored[f"{group}/num_drawn"]
        if not np.array_equal(sums_of(counts_R, rows_B), entries_B) or counts_R.max(initial=0) > self.k:
            raise ValueError(
                f"{len(entries):,} entries for rows that say they have {counts_R.sum():,}, others of a sample, or more "
                f"than {self.k} each"
            )
        joined = np.zeros((len(rows), self.slots.row_bytes), dtype=np.uint8)
        columns, is_before_NK = self.slots.columns(joined), _is_before(self.k)
        for name, column in stored.items():
            columns[name][...] = column
        is_there_RK = is_before_NK.take(counts_R, axis=0)
        for name, column in own.items():
            short, is_told_RK = name.rpartition("/")[2], is_there_RK
            if short == GAPS and self.gaps_first:
                num_head_R = stored[f"{group}/num_head"].astype(np.int64)
                is_told_RK = is_before_NK.take(num_head_R, axis=0)
                is_told_RK[:, 0] = False
                column = column[_in_front(sums_of(num_head_R - 1, rows_B), entries_B)]
            columns[f"{group}/{short}"][is_told_RK] = column
        return joined


@lru_cache(maxsize=8)
def _is_before(k: int) -> NDArray[np.bool_]:
    """bool [K + 1, K], whether a slot is one of the first n: to look that up is 6 times as fast as to compare."""
    is_before_NK: NDArray[np.bool_] = np.arange(k) < np.arange(k + 1)[:, None]
    return is_before_NK


def sampled_layout(plan: StorePlan, output: ClassesRecord) -> SampledLayout:
    """Of one output whose rows are samples."""
    group, k = plan.group_of(output), output.selection.k
    rows, entries = plan.storage.fields_of(group), plan.storage.fields_of(f"{group}{ENTRIES}")
    slots = [
        msgspec.structs.replace(field, name=f"{group}/{field.short_name}", row_shape=(k, *field.row_shape))
        for field in entries
    ]
    gaps_first = output.coding.gaps_first is True
    return SampledLayout(layout_of(rows), layout_of(entries), layout_of([*rows, *slots]), k, gaps_first)


def find_wrong_rows(arrays: Mapping[str, Array], *, group: str) -> str | None:
    """What is wrong with the arrays of sampled rows, as the middle of a sentence: numbers that no row has."""
    num_head_R, num_drawn_R = arrays.get(f"{group}/num_head"), arrays.get(f"{group}/num_drawn")
    tail_R = arrays.get(f"{group}/tail")
    if num_head_R is None or num_drawn_R is None or tail_R is None:
        return None
    if not num_head_R.all():
        return "a row without a class that isn't drawn"
    if ((tail_R.astype(np.int64) >= TAIL_STEPS * num_drawn_R.astype(np.int64)) & (num_drawn_R > 0)).any():
        return "drawn classes that weigh nothing"
    return None


def sums_of(counts_R: NDArray[np.int64], rows_B: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Of the rows of each sample, one sample behind the other; None for one row each."""
    if rows_B is None:
        return counts_R
    ends = np.concatenate([[0], np.cumsum(counts_R)])[np.concatenate([[0], np.cumsum(rows_B)])]
    sums_B: NDArray[np.int64] = np.diff(ends)
    return sums_B


def place_arrays(
    plan: StorePlan, output: ClassesRecord, encoded: Mapping[str, Array], *, rows_S: NDArray[np.int64] | None
) -> dict[str, Array]:
    """What a coding gives for the rows of a shard, by the names that arrays have in a store. `rows_S` is how many rows
    each sample has in outputs with units."""
    group = plan.group_of(output)
    if not output.is_sampled:
        return {f"{group}/{name}": array for name, array in encoded.items()}
    counts_R = encoded["num_head"].astype(np.int64) + encoded["num_drawn"]
    rows_S = rows_S if output.units else None
    counts_S = sums_of(counts_R, rows_S)
    if output.coding.gaps_first is True:
        encoded = {**encoded, GAPS: _gaps_in_front(encoded, counts_R=counts_R, rows_S=rows_S)}
    placed = {f"{group}{ENTRIES if name in ENTRY_ARRAYS else ''}/{name}": array for name, array in encoded.items()}
    (name, dtype), *_ = SAMPLE_ARRAYS.items()
    return placed | {f"{group}{SAMPLES}/{name}": counts_S.astype(dtype)}


def _gaps_in_front(
    encoded: Mapping[str, Array], *, counts_R: NDArray[np.int64], rows_S: NDArray[np.int64] | None
) -> Array:
    """[E], those of the head but its first, whose gap is 0, in front of each sample's places."""
    num_head_R = encoded["num_head"].astype(np.int64)
    slot_E = np.arange(counts_R.sum()) - np.repeat(np.cumsum(counts_R) - counts_R, counts_R)
    is_told_E = (slot_E > 0) & (slot_E < np.repeat(num_head_R, counts_R))
    gaps_E = np.zeros_like(encoded[GAPS])
    gaps_E[_in_front(sums_of(num_head_R - 1, rows_S), sums_of(counts_R, rows_S))] = encoded[GAPS][is_told_E]
    return gaps_E


def _in_front(gaps_S: NDArray[np.int64], entries_S: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of each sample's gaps, among those of the entries of all."""
    first_S, before_S = np.cumsum(entries_S) - entries_S, np.cumsum(gaps_S) - gaps_S
    places: NDArray[np.int64] = np.arange(gaps_S.sum()) + np.repeat(first_S - before_S, gaps_S)
    return places


def place_tokens(
    plan: StorePlan, read: TokensReadRecord, ids_E: NDArray[np.int64], *, counts_S: NDArray[np.int64]
) -> dict[str, Array]:
    """What was read of the samples of a shard, by the names that arrays have in a store."""
    group = plan.group_of(read)
    (name, dtype), *_ = SAMPLE_ARRAYS.items()
    return {
        f"{group}{SAMPLES}/{name}": counts_S.astype(dtype),
        f"{group}{ENTRIES}/token_ids": ids_E.astype(token_dtype(read.vocabulary)),
    }
