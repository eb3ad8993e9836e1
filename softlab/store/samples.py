"""`samples.parquet`: which sample has which number, key, hard target and content hash."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

SAMPLES_NAME = "samples.parquet"

SCHEMA = pa.schema(
    [
        pa.field("sample", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("target", pa.int64()),
        pa.field("content_hash", pa.binary(16), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleTable:
    """One entry a sample, in the order of sample numbers."""

    keys: Sequence[str]
    targets_N: NDArray[np.int64] | None
    """-1 where unknown."""

    content_hashes: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.keys)


def encode_samples(table: SampleTable) -> bytes:
    """The bytes of `samples.parquet`."""
    count = len(table)
    targets = np.full(count, -1, dtype=np.int64) if table.targets_N is None else table.targets_N
    columns = [
        pa.array(np.arange(count, dtype=np.int64)),
        pa.array(table.keys, pa.string()),
        pa.array(targets, mask=targets < 0),
        pa.array(table.content_hashes, pa.binary(16)),
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode_samples(data: bytes) -> SampleTable:
    """The inverse of `encode_samples`."""
    table = pq.read_table(pa.BufferReader(data), schema=SCHEMA)
    targets = table["target"].fill_null(-1).to_numpy()
    return SampleTable(
        keys=table["key"].to_pylist(),
        targets_N=targets if (targets >= 0).any() else None,
        content_hashes=table["content_hash"].to_pylist(),
    )
