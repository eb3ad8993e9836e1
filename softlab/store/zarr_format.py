"""Zarr v3: one sharded array [V, N, ...] a field, one shard file for each of our shards.

An output with units has arrays [V, shards * room, ...], where room is the number of rows that each shard has place for;
the rows of a shard stand at the beginning of its place, and the rest is fill.

A shard's file is the same whether it is written alone or as a part of its whole array, so it is encoded as the only
shard of a small array in memory. A missing shard would read as fill values, so readers of softlab ask the
manifest, never the array, what exists.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core import sync
from zarr.storage import MemoryStore

from softlab.manifest import ClassesRecord, FieldRecord, OutputRecord, StorePlan, TokensReadRecord
from softlab.shards import Shard
from softlab.store.format import Arrays, decoding_facts
from softlab.store.zarr_shards import Wanted, decode_shards


class ZarrFormat:
    """See `StoreFormat`."""

    def layout_files(self, plan: StorePlan) -> dict[str, bytes]:
        groups = dict.fromkeys(parent for field in plan.storage.fields for parent in _parents(field.name))
        outputs = {plan.group_of(output): output for output in plan.outputs}  # the groups below tell nothing more
        documents = {f"{group}zarr.json": _group_document(plan, outputs.get(group.rstrip("/"))) for group in groups}
        arrays = {f"{field.name}/zarr.json": _array_document(plan, field) for field in plan.storage.fields}
        return documents | arrays

    def path_of(self, field: FieldRecord, shard: Shard) -> str:
        return "/".join([field.name, "c", str(shard.view), str(shard.part), *("0" for _ in field.row_shape)])

    def encode(
        self, plan: StorePlan, shard: Shard, arrays: Arrays, *, rows_S: NDArray[np.int64] | None = None
    ) -> dict[str, bytes]:
        files = {}
        for field in plan.storage.fields:
            contents: dict[str, Any] = {}
            array = arrays[field.name]
            # A shard of samples without units has no rows, but a file like the others: with one row of fill.
            _shard_array(MemoryStore(contents), plan, field)[0, : max(len(array), 1)] = array if len(array) else 0
            files[self.path_of(field, shard)] = contents[_only_key(field)].to_bytes()
        return files

    def decode(
        self, plan: StorePlan, shard: Shard, fields: Sequence[FieldRecord], files: Mapping[str, bytes], out: Arrays
    ) -> None:
        decode_shards(
            [
                Wanted(files[self.path_of(field, shard)], field, out[field.name], plan.shard_capacity(field))
                for field in fields
            ]
        )


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


def _array_document(plan: StorePlan, field: FieldRecord) -> bytes:
    """Metadata of the whole array, as zarr itself writes it."""
    contents: dict[str, Any] = {}
    grid, num_rows = plan.grid, plan.grid.num_samples
    if plan.axis_of(field.group) != "sample":
        num_rows = grid.parts_per_view * plan.shard_capacity(field)
    _create_array(MemoryStore(contents), field, num_views=grid.num_views, num_rows=num_rows, plan=plan)
    document: bytes = contents["zarr.json"].to_bytes()
    return document


def _parents(name: str) -> list[str]:
    """The groups around an array, each with its slash: "", "outputs/" and "outputs/logits/"."""
    parts = name.split("/")[:-1]
    return ["", *("/".join(parts[:end]) + "/" for end in range(1, len(parts) + 1))]


def _group_document(plan: StorePlan, output: OutputRecord | None) -> bytes:
    """Of a group; that of an output tells other readers how to turn what is stored into logits or values."""
    attributes = {} if output is None else decoding_facts(output)
    if output is not None and output.units:
        attributes |= {"shard_samples": plan.storage.shard_rows, "shard_units": plan.storage.shard_units}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2).encode()
