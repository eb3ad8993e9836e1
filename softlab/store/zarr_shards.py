"""Decode one Zarr shard file without zarr's own pipeline, which takes several times as long as the codecs themselves.

A shard file (Zarr v3, sharding_indexed) is its chunks, each Blosc and then four bytes of CRC32C, and an index: offset
and length of each chunk, little-endian uint64, and four bytes of CRC32C. Whoever calls has compared the file's BLAKE3
hash, so the checksums are for other readers; sizes are checked all the same before anything is decoded.
"""

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numcodecs import Blosc
from numpy.typing import NDArray

from softlab.manifest import FieldRecord
from softlab.store.format import Array

BLOSC = Blosc()
"""Decodes whatever Blosc has encoded: compressor and shuffle are in each chunk's header."""

BLOSC_SIZES = struct.Struct("<4xIII")
"""Of a chunk's header: bytes when decoded, of a block, as encoded."""

BLOSC_HEADER_BYTES = 16
CHECKSUM_BYTES = 4
MAX_THREADS = 8


def decode_shard(data: bytes, field: FieldRecord, *, num_rows: int, shard_rows: int) -> Array:
    """The first `num_rows` rows of a shard, [num_rows, *row_shape].

    Raises ValueError or RuntimeError if the file isn't such a shard.
    """
    num_chunks = shard_rows // field.chunk_rows
    index = _read_index(data, num_chunks)
    rows = np.empty((num_rows, *field.row_shape), dtype=field.dtype)
    used = -(-num_rows // field.chunk_rows)
    threads = min(torch.get_num_threads(), MAX_THREADS, used)  # torch keeps to one thread in a loader's workers
    with ThreadPoolExecutor(threads) as pool:  # also for one: in a main thread Blosc would start threads of its own
        parts = [range(first, used, threads) for first in range(threads)]
        for done in [pool.submit(_decode_chunks, data, index, field, rows, part) for part in parts]:
            done.result()
    return rows


def _read_index(data: bytes, num_chunks: int) -> NDArray[np.uint64]:
    index_bytes = 16 * num_chunks + CHECKSUM_BYTES
    if len(data) < index_bytes:
        raise ValueError(f"{len(data):,} bytes can't hold the index of {num_chunks} chunks")
    index: NDArray[np.uint64] = np.frombuffer(data, "<u8", 2 * num_chunks, len(data) - index_bytes)
    return index.reshape(num_chunks, 2)


def _decode_chunks(data: bytes, index: NDArray[np.uint64], field: FieldRecord, rows: Array, chunks: range) -> None:
    for chunk in chunks:
        start, length = index[chunk].tolist()
        if start + length > len(data) or length < BLOSC_HEADER_BYTES + CHECKSUM_BYTES:
            raise ValueError(f"chunk {chunk} is said to be {length} bytes from {start}, in a file of {len(data)}")
        first = chunk * field.chunk_rows
        here = rows[first : first + field.chunk_rows]
        _decode_chunk(memoryview(data)[start : start + length - CHECKSUM_BYTES], field, here)


def _decode_chunk(data: memoryview, field: FieldRecord, rows: Any) -> None:
    """A chunk is always whole; the last one of a shard may hold more rows than are asked for."""
    decoded_bytes, _, encoded_bytes = BLOSC_SIZES.unpack_from(data)
    if (decoded_bytes, encoded_bytes) != (field.chunk_rows * field.row_bytes, len(data)):
        raise ValueError(f"a chunk of {len(data)} bytes says that it has {encoded_bytes}, and {decoded_bytes} decoded")
    if len(rows) == field.chunk_rows:
        BLOSC.decode(data, rows)
        return
    whole = np.empty((field.chunk_rows, *field.row_shape), dtype=field.dtype)
    BLOSC.decode(data, whole)
    rows[:] = whole[: len(rows)]
