"""The arrays of a Zarr store as zarr itself writes them. To read a store, softlab needs none of it."""

import asyncio
from typing import Any

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core import sync
from zarr.storage import MemoryStore

from softlab.manifest import ClassesRecord, FieldRecord, StorePlan, TokensReadRecord
from softlab.store.format import Array


def encode_shard(plan: StorePlan, field: FieldRecord, array: Array) -> bytes:
    """The file of one shard of a field."""
    contents: dict[str, Any] = {}
    # A shard of samples without units has no rows, but a file like the others: with one row of fill.
    _shard_array(MemoryStore(contents), plan, field)[0, : max(len(array), 1)] = array if len(array) else 0
    encoded: bytes = contents[_only_key(field)].to_bytes()
    return encoded


def array_document(plan: StorePlan, field: FieldRecord) -> bytes:
    """Metadata of the whole array."""
    contents: dict[str, Any] = {}
    grid, num_rows = plan.grid, plan.grid.num_samples
    if plan.axis_of(field.group) != "sample":
        num_rows = grid.parts_per_view * plan.shard_capacity(field)
    _create_array(MemoryStore(contents), field, num_views=grid.num_views, num_rows=num_rows, plan=plan)
    document: bytes = contents["zarr.json"].to_bytes()
    return document


def _shard_array(store: MemoryStore, plan: StorePlan, field: FieldRecord) -> "zarr.Array[Any]":
    return _create_array(store, field, num_views=1, num_rows=plan.shard_capacity(field), plan=plan)


def _create_array(
    store: MemoryStore, field: FieldRecord, *, num_views: int, num_rows: int, plan: StorePlan
) -> "zarr.Array[Any]":
    _start_loop()
    return zarr.create_array(
        store,
        shape=(num_views, num_rows, *field.row_shape),
        dtype=field.dtype,
        chunks=(1, field.chunk_rows, *field.row_shape),
        shards=(1, plan.shard_capacity(field), *field.row_shape),
        filters=None,
        compressors=[_blosc(plan, field), Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
        zarr_format=3,
    )


def _start_loop() -> None:
    """That of zarr's own thread. Where the thread can't be started, as 2 GB of address space are too few, zarr keeps
    the loop all the same and waits for it for ever when it is called again; so the loop goes, and the error stays."""
    if sync.loop[0] is not None:
        return
    nothing = asyncio.sleep(0)
    try:
        sync.sync(nothing)
    except RuntimeError:
        nothing.close()
        if sync.loop[0] is not None:
            sync.loop[0].close()
        sync.reset_resources_after_fork()
        raise


def _blosc(plan: StorePlan, field: FieldRecord) -> BloscCodec:
    """Chosen for what is read again and again; for 16 of 1,000 classes, 4,096 rows a chunk, one thread:

    |                         | bytes a row | decoding, ns a row | encoding, ns a row |
    | class ids, zstd 5, bits | 20.1        | 14                 | 60                 |
    | logits, lz4hc 5, bytes  | 22.6        | 6                  | 700                |
    | logits, zstd 1, bits    | 26.0        | 40                 | 60                 |
    | gaps, zstd 1            | 7.1         | 16                 | 75                 |

    int8 values are smallest as they are: 128 pooled features take 92.6 bytes a row under zstd 1, and by bits 99.1.
    """
    output = plan.output_of(field)
    if isinstance(output, TokensReadRecord) or (isinstance(output, ClassesRecord) and output.is_sampled):
        return BloscCodec(cname="zstd", clevel=9, shuffle="shuffle")
    if field.dtype == "int8":
        return BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")
    if not isinstance(output, ClassesRecord):  # some kB a row, where lz4hc would keep a fast teacher waiting
        return BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
    if field.dtype.startswith("uint") and field.dtype != "uint8":
        return BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
    if output.coding.logits == "uint8":  # made to be small
        return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    return BloscCodec(cname="lz4hc", clevel=5, shuffle="shuffle")


def _only_key(field: FieldRecord) -> str:
    return "/".join(["c", "0", "0", *("0" for _ in field.row_shape)])
