"""Decode Zarr shard files without zarr's own pipeline, which takes several times as long as the codecs themselves.

A shard file (Zarr v3, sharding_indexed) is its chunks, each Blosc and then four bytes of CRC32C, and an index: offset
and length of each chunk, little-endian uint64, and four bytes of CRC32C. Whoever calls has compared the file's BLAKE3
hash, so the checksums are for other readers; sizes are checked all the same before anything is decoded.

A chunk is decoded into a scratch buffer, small enough for a processor's cache, and copied to where its rows belong,
which may be columns of packed rows. Large arrays in between would cost more than the decoding: fresh memory is slow.
"""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """The first rows of one shard file."""

    data: bytes
    field: FieldRecord
    rows: Array
    """[rows, *row_shape], to be filled."""

    shard_rows: int
    """Rows that the file has room for."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    number: int
    data: memoryview
    field: FieldRecord
    rows: Array


def decode_shards(wanted: Sequence[Wanted]) -> None:
    """Fill rows from shard files. Raises ValueError or RuntimeError if one isn't such a file."""
    import torch  # here, because commands that only copy or check files start without it

    chunks = [chunk for each in wanted for chunk in _chunks(each)]
    threads = min(torch.get_num_threads(), MAX_THREADS, max(len(chunks), 1))  # as many as torch may use
    with ThreadPoolExecutor(threads) as pool:  # also for one: in a main thread Blosc would start threads of its own
        for done in [pool.submit(_decode, chunks[first::threads]) for first in range(threads)]:
            done.result()


def _chunks(wanted: Wanted) -> list[_Chunk]:
    data, field, rows = wanted.data, wanted.field, wanted.rows
    index = _read_index(data, wanted.shard_rows // field.chunk_rows)
    found = []
    for number, first in enumerate(range(0, len(rows), field.chunk_rows)):
        start, length = index[number].tolist()
        if start + length > len(data) or length < BLOSC_HEADER_BYTES + CHECKSUM_BYTES:
            raise ValueError(f"chunk {number} is said to be {length} bytes from {start}, in a file of {len(data)}")
        encoded = memoryview(data)[start : start + length - CHECKSUM_BYTES]
        found.append(_Chunk(number, encoded, field, rows[first : first + field.chunk_rows]))
    return found


def _read_index(data: bytes, num_chunks: int) -> NDArray[np.uint64]:
    index_bytes = 16 * num_chunks + CHECKSUM_BYTES
    if len(data) < index_bytes:
        raise ValueError(f"{len(data):,} bytes can't hold the index of {num_chunks} chunks")
    index: NDArray[np.uint64] = np.frombuffer(data, "<u8", 2 * num_chunks, len(data) - index_bytes)
    return index.reshape(num_chunks, 2)


def _decode(chunks: Sequence[_Chunk]) -> None:
    scratch: dict[str, Array] = {}
    for chunk in chunks:
        field = chunk.field
        decoded_bytes, _, encoded_bytes = BLOSC_SIZES.unpack_from(chunk.data)
        if (decoded_bytes, encoded_bytes) != (field.chunk_rows * field.row_bytes, len(chunk.data)):
            raise ValueError(
                f"chunk {chunk.number} of {len(chunk.data)} bytes says that it has {encoded_bytes}, and "
                f"{decoded_bytes} decoded"
            )
        if field.name not in scratch:
            scratch[field.name] = np.empty((field.chunk_rows, *field.row_shape), dtype=field.dtype)
        BLOSC.decode(chunk.data, scratch[field.name])
        chunk.rows[...] = scratch[field.name][: len(chunk.rows)]  # the last chunk of a shard may hold more
