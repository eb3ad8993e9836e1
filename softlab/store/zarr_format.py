"""Zarr v3: one sharded array [V, N, ...] a field, one shard file for each of our shards.

An output with units has arrays [V, shards * room, ...], where room is the number of rows that each shard has place for;
the rows of a shard stand at the beginning of its place, and the rest is fill.

A shard's file is the same whether it is written alone or as a part of its whole array, so it is encoded as the only
shard of a small array in memory. A missing shard would read as fill values, so readers of softlab ask the
manifest, never the array, what exists.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from softlab.manifest import FieldRecord, OutputRecord, StorePlan
from softlab.shards import Shard
from softlab.store.format import Arrays, decoding_facts
from softlab.store.zarr_shards import Wanted, decode_shards


class ZarrFormat:
    """See `StoreFormat`."""

    def layout_files(self, plan: StorePlan) -> dict[str, bytes]:
        from softlab.store.zarr_arrays import array_document  # zarr takes a third of a second, and readers need none

        groups = dict.fromkeys(parent for field in plan.storage.fields for parent in _parents(field.name))
        outputs = {plan.group_of(output): output for output in plan.outputs}  # the groups below tell nothing more
        documents = {f"{group}zarr.json": _group_document(plan, outputs.get(group.rstrip("/"))) for group in groups}
        arrays = {f"{field.name}/zarr.json": array_document(plan, field) for field in plan.storage.fields}
        return documents | arrays

    def path_of(self, field: FieldRecord, shard: Shard) -> str:
        return "/".join([field.name, "c", str(shard.view), str(shard.part), *("0" for _ in field.row_shape)])

    def encode(
        self, plan: StorePlan, shard: Shard, arrays: Arrays, *, rows_S: NDArray[np.int64] | None = None
    ) -> dict[str, bytes]:
        from softlab.store.zarr_arrays import encode_shard

        return {
            self.path_of(field, shard): encode_shard(plan, field, arrays[field.name]) for field in plan.storage.fields
        }

    def decode(
        self, plan: StorePlan, shard: Shard, fields: Sequence[FieldRecord], files: Mapping[str, bytes], out: Arrays
    ) -> None:
        decode_shards(
            [
                Wanted(files[self.path_of(field, shard)], field, out[field.name], plan.shard_capacity(field))
                for field in fields
            ]
        )


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
