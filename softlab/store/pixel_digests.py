"""`pixel_digests/view-00000.parquet`: for some samples of a view, 64 bits that stand for its pixels as the teacher saw
them, after the random part and before the teacher's own input options."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from softlab.errors import printable
from softlab.foreign_parquet import ForeignParquet
from softlab.indices import RecipeIndex, StoreIndex
from softlab.parquet_pages import check_claims

SCHEMA = pa.schema(
    [pa.field("sample", pa.int64(), nullable=False), pa.field("pixel_digest", pa.uint64(), nullable=False)]
)
ROW_BYTES = 8 + 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PixelDigests:
    """Of D samples of one view."""

    store_D: StoreIndex
    """Ascending."""

    digests_D: NDArray[np.uint64]

    def within(self, start: int, stop: int) -> list[int]:
        """Digests of those of samples start..stop-1 that have one."""
        first, last = np.searchsorted(self.store_D, [start, stop])
        return [int(digest) for digest in self.digests_D[first:last]]

    def of_samples(self, store_N: StoreIndex) -> "PixelDigests":
        """Those of some samples, in ascending order, which count from 0 among themselves."""
        is_chosen_D = np.isin(self.store_D, store_N)
        places_D = np.searchsorted(store_N, self.store_D[is_chosen_D])
        return PixelDigests(store_D=StoreIndex(places_D), digests_D=self.digests_D[is_chosen_D])

    @classmethod
    def none(cls) -> "PixelDigests":
        return cls(store_D=StoreIndex(np.empty(0, dtype=np.int64)), digests_D=np.empty(0, dtype=np.uint64))


def encode_digests(digests: PixelDigests) -> bytes:
    """The bytes of such a file."""
    table = pa.Table.from_arrays([pa.array(digests.store_D), pa.array(digests.digests_D)], schema=SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode_digests(data: bytes, *, max_rows: int) -> PixelDigests:
    """The inverse of `encode_digests`; raises ValueError for anything else, and for more rows than may be."""
    file = ForeignParquet(data)
    if file.num_rows > max_rows:
        raise ValueError(f"{file.num_rows:,} of them, of {max_rows:,} samples")
    if not file.schema.equals(SCHEMA):
        raise ValueError(f"the columns are {printable(', '.join(file.schema.names))}")
    check_claims(data, file.metadata, row_bytes=ROW_BYTES, row_values=len(SCHEMA))
    table = file.read(SCHEMA.names)
    if any(column.null_count for column in table.columns):
        raise ValueError("values are missing")
    return PixelDigests(store_D=StoreIndex(table["sample"].to_numpy()), digests_D=table["pixel_digest"].to_numpy())


def is_digested(recipe_index: int, *, view: int, every: int) -> bool:
    """Whether the digest of a view is kept: of one view in `every`, the samples taking turns; of none for 0. The
    view too is that of the recipe, which is not the store's where it was pulled without the first views."""
    return every > 0 and (recipe_index - view) % every == 0


def digested_samples(
    start: int, stop: int, *, view: int, every: int, recipe_N: RecipeIndex | None = None
) -> StoreIndex:
    """Those of samples start..stop-1 of a store for which `is_digested` holds. Without `recipe_N` the store and
    the recipe count alike."""
    store_S = np.arange(start, stop)
    recipe_S = store_S if recipe_N is None else recipe_N[start:stop]
    return StoreIndex(store_S[(recipe_S - view) % every == 0] if every else store_S[:0])
