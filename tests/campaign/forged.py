"""Stores of a hostile publisher: anything in their files may be wrong, and every hash is right."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from softlab.disk import list_files
from softlab.errors import SoftlabError
from softlab.identity import digest_of
from softlab.manifest import ENTRIES, MANIFEST_NAME
from softlab.store.cache import CacheOptions
from softlab.store.format import Array
from softlab.store.known_formats import format_named
from softlab.store.reader import open_store
from tests.campaign.trees import DOCUMENT_CHANGES, vouch

NUMBERS = (0, 1, -1, 3, 255, 2**15, 2**31 - 1, 2**63 - 1, 1e30, float("nan"), float("inf"), float("-inf"))
TYPES = (pa.int8(), pa.int64(), pa.float16(), pa.float64(), pa.string(), pa.binary(), pa.list_(pa.int64()), pa.bool_())
WAYS: tuple[dict[str, Any], ...] = (
    *({}, {"compression": "none"}, {"compression": "gzip"}, {"data_page_version": "2.0"}, {"use_dictionary": False}),
    *({"row_group_size": 1}, {"write_statistics": False}, {"store_schema": False}, {"write_page_index": True}),
)


def forge(root: Path, chance: random.Random) -> str:
    """Change a store in some ways and make all of its hashes right; what was done, in words."""
    told = [chance.choice((_forge_manifest, _forge_document, _forge_table, _forge_rows, _forge_bytes))(root, chance)]
    while chance.random() < 0.3:
        told.append(_forge_bytes(root, chance))
    vouch_for_all(root)
    return ", ".join(told)


def vouch_for_all(root: Path) -> None:
    """Sizes and hashes of all files as they are now, where the manifest is one still."""
    path = root / MANIFEST_NAME
    try:
        tree = json.loads(path.read_bytes())
    except ValueError:
        return
    for record in _records(tree):
        file = root / record["path"] if isinstance(record["path"], str) and "\0" not in record["path"] else root
        if file.is_file() and file.resolve().is_relative_to(root.resolve()):
            data = file.read_bytes()
            record |= {"bytes": len(data), "blake3": digest_of(data)}
    path.write_bytes(vouch(json.dumps(tree, indent=1).encode() + b"\n"))


def _records(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict) and {"path", "bytes", "blake3"} <= tree.keys():
        yield tree
    for each in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _records(each)


def _forge_manifest(root: Path, chance: random.Random) -> str:
    change = chance.choice(DOCUMENT_CHANGES)
    data = change((root / MANIFEST_NAME).read_bytes(), chance)
    (root / MANIFEST_NAME).write_bytes(vouch(data))
    return f"manifest.json: {change.__name__}"


def _forge_document(root: Path, chance: random.Random) -> str:
    """That of a layout, where there are any."""
    documents = [path for path in list_files(root) if path.endswith("zarr.json")]
    if not documents:
        return _forge_table(root, chance)
    path, change = chance.choice(documents), chance.choice(DOCUMENT_CHANGES)
    (root / path).write_bytes(change((root / path).read_bytes(), chance))
    return f"{path}: {change.__name__}"


def _forge_bytes(root: Path, chance: random.Random) -> str:
    """A few, more often where a file ends, which is where Parquet and sharded Zarr say what they hold."""
    path = chance.choice([path for path in list_files(root) if not path.endswith(".json")])
    data = bytearray((root / path).read_bytes())
    for _ in range(chance.choice((1, 1, 2, 5)) if data else 0):
        at = chance.randrange(len(data)) if chance.random() < 0.5 else -chance.randint(1, min(len(data), 600))
        data[at] = chance.choice((data[at] ^ 1 << chance.randrange(8), 0, 255, chance.randrange(256)))
    (root / path).write_bytes(data)
    return f"{path}: bytes"


def _forge_table(root: Path, chance: random.Random) -> str:
    """Another table in a file of Parquet, well formed."""
    path = chance.choice([path for path in list_files(root) if path.endswith(".parquet")])
    table, change = pq.read_table(root / path), chance.choice(TABLE_CHANGES)
    try:
        pq.write_table(change(table, chance), root / path, **chance.choice(WAYS))
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        return f"{path}: as it was"  # there is no such table
    return f"{path}: {change.__name__}"


def _other_numbers(table: Any, chance: random.Random) -> Any:
    at = chance.randrange(table.num_columns)
    field = table.schema.field(at)
    values = table.column(at).to_pylist()
    for row in chance.sample(range(len(values)), min(len(values), chance.choice((1, 3, len(values))))):
        values[row] = _other(values[row], chance)
    return table.set_column(at, field.with_nullable(True), pa.array(values, field.type))


def _other(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return [_other(each, chance) for each in value] if chance.random() < 0.7 else value * 3
    if isinstance(value, float):
        return float(chance.choice(NUMBERS))
    if isinstance(value, int):
        return int(chance.choice(NUMBERS[:8]))
    return chance.choice((None, value * 2, value[:-1], value * 1000))


def _other_type(table: Any, chance: random.Random) -> Any:
    at = chance.randrange(table.num_columns)
    kind = chance.choice(TYPES)
    column = pa.nulls(len(table), kind) if chance.random() < 0.5 else table.column(at).cast(kind, safe=False)
    return table.set_column(at, table.schema.field(at).name, column)


def _other_rows(table: Any, chance: random.Random) -> Any:
    places = [chance.randrange(len(table)) for _ in range(chance.choice((1, len(table), 1000)))] if len(table) else []
    return table.take(places)


def _other_columns(table: Any, chance: random.Random) -> Any:
    names = table.column_names
    at = chance.randrange(len(names))
    return chance.choice(
        (
            lambda: table.drop_columns([names[at]]),
            lambda: table.select(list(reversed(range(len(names))))),
            lambda: table.rename_columns([*names[:at], "other", *names[at + 1 :]]),
            lambda: table.append_column(names[at], table.column(at)),
            lambda: table.set_column(at, names[at], table.column(at).combine_chunks().dictionary_encode()),
            lambda: table.replace_schema_metadata({"softlab": chance.choice(["", "{", "[1]", '{"row_shapes": {}}'])}),
        )
    )()


TABLE_CHANGES: tuple[Callable[[Any, random.Random], Any], ...] = (
    *(_other_numbers, _other_numbers, _other_numbers),
    *(_other_type, _other_rows, _other_columns),
)


def _forge_rows(root: Path, chance: random.Random) -> str:
    """Numbers that no teacher says, encoded as softlab does."""
    try:
        store = open_store(root, cache=CacheOptions(max_bytes=0))
        plan, samples = store.manifest.plan, store.read_samples()
        shard = chance.choice(list(store.manifest.grid))
        names = [group for output in plan.outputs for group in plan.groups_of(output)]
        groups = [store.read_shard(shard, group=group) for group in names]
    except SoftlabError:
        return "nothing"  # of format 1, say, whose arrays have other names
    rows_S = None if samples.rows_N is None else samples.rows_N[shard.start : shard.stop]
    arrays = {name: array for group in groups for name, array in group.items()}
    name = _spoil(arrays, chance)
    if name.endswith(ENTRIES) and plan.storage.format == "parquet":
        return "nothing"  # the index of a sample stands beside each of its entries
    for path, data in format_named(plan.storage.format).encode(plan, shard, arrays, rows_S=rows_S).items():
        (root / path).write_bytes(data)
    return f"{name} of {shard.name}"


def _spoil(arrays: dict[str, Array], chance: random.Random) -> str:
    name = chance.choice([name for name, array in arrays.items() if array.size] or list(arrays))
    array = arrays[name] = arrays[name].copy()
    with np.errstate(all="ignore"):
        number = np.array(chance.choice(NUMBERS)).astype(array.dtype)
    if chance.random() < 0.3 or not array.size:
        array[...] = number
    else:
        array.reshape(-1)[chance.randrange(array.size)] = number
    return f"{number} in {name}"
