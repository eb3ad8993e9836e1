"""A small valid manifest, and changed ones, for the tests of whatever reads one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from softlab.identity import digest_of, label_space_fingerprint
from softlab.manifest import (
    MANIFEST_NAME,
    ClassesRecord,
    CodingRecord,
    FieldRecord,
    FileRecord,
    InputRecord,
    LabelSpaceRecord,
    Manifest,
    SelectionRecord,
    ShardRecord,
    SourceRecord,
    Statistics,
    StorageRecord,
    TeacherRecord,
    ValuesRecord,
    ViewsRecord,
    add_up_by_output,
)
from softlab.manifest.document import SELF_BYTES, SELF_KEY
from softlab.shards import Shard, ShardGrid

FIELDS = (
    FieldRecord(name="outputs/logits/class_ids", dtype="uint16", row_shape=(3,), chunk_rows=2),
    FieldRecord(name="outputs/logits/logits", dtype="float16", row_shape=(3,), chunk_rows=2),
    FieldRecord(name="outputs/logits/max_logit", dtype="float16", row_shape=(), chunk_rows=4),
    FieldRecord(name="outputs/logits/log_tail", dtype="float16", row_shape=(2,), chunk_rows=4),
    FieldRecord(name="outputs/pooled/values", dtype="float16", row_shape=(8, 2), chunk_rows=1),
)
LABELS = ClassesRecord(
    name="logits",
    taken_from="output",
    label_space=LabelSpaceRecord(
        num_classes=5, class_names=tuple("abcde"), fingerprint=label_space_fingerprint(5, tuple("abcde"))
    ),
    selection=SelectionRecord(k=3, temperatures=(1.0, 4.0)),
    coding=CodingRecord(logits="float16", gap_step=None),
)
GRID = ShardGrid(num_views=2, num_samples=10, shard_rows=4)


def make_manifest(**changes: object) -> Manifest:
    """Of 2 views of 10 samples in 6 shards, top 3 of 5 classes, one feature; with some of its parts replaced."""
    shards = tuple(_shard_record(shard) for shard in GRID)
    manifest = Manifest(
        format="softlab",
        format_version=2,
        kind="soft-labels",
        softlab_version="0.1.0",
        libraries={"python": "3.11.7", "torch": "2.6.0"},
        teacher=TeacherRecord(
            model="torchvision:resnet18",
            arguments={"num_classes": 5},
            weights_fingerprint=digest_of(b"weights"),
            num_parameters=11_000_000,
            precision="bfloat16",
        ),
        source=SourceRecord(
            name="folder:pets", num_samples=GRID.num_samples, keys_fingerprint=digest_of(b"keys"), skipped=()
        ),
        inputs=(
            InputRecord(field="image", modality="images", options={"size": [224, 224], "mean": [0.5], "std": [0.5]}),
        ),
        views=ViewsRecord(num_views=GRID.num_views),
        outputs=(LABELS, ValuesRecord(name="pooled", taken_from="layer:layer4:mean")),
        storage=StorageRecord(format="zarr", shard_rows=GRID.shard_rows, fields=FIELDS),
        parent=None,
        source_fingerprint=digest_of(b"source"),
        samples_file=_file_record("samples.parquet"),
        layout_files=(_file_record("outputs/logits/zarr.json"),),
        shards=shards,
        statistics=add_up_by_output(shards),
    )
    return msgspec.structs.replace(manifest, **changes)


def with_own_hash(tree: dict[str, Any]) -> bytes:
    """A manifest from the JSON of one that was changed: the hash that it holds of itself is right again."""
    first, *others = (item for item in tree.items() if item[0] != "self")
    data = json.dumps(dict([first, ("self", "0" * 64), *others]), indent=1).encode()
    at = data.index(SELF_KEY)
    start = at + len(SELF_KEY)
    return data[:start] + digest_of(data[:at] + data[at + SELF_BYTES :]).encode() + data[start + 64 :]


def set_at(tree: Any, path: str, value: object) -> None:
    """Another value at a path such as `shards.0.view`."""
    *parents, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in parents:
        tree = tree[step]
    tree[last] = value


def change_manifest(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Of a finished store on disk, as somebody could forge it."""
    tree = json.loads((store / MANIFEST_NAME).read_bytes())
    change(tree)
    (store / MANIFEST_NAME).write_bytes(with_own_hash(tree))


def _shard_record(shard: Shard) -> ShardRecord:
    return ShardRecord(
        view=shard.view,
        start=shard.start,
        stop=shard.stop,
        files=tuple(_file_record(f"{field.name}/c/{shard.view}/{shard.part}/0") for field in FIELDS),
        statistics={
            "logits": Statistics(
                rows=shard.num_rows,
                rows_with_target=shard.num_rows,
                correct=shard.num_rows - 1,
                captured_mass=(0.9 * shard.num_rows, 0.7 * shard.num_rows),
                clipped_logits=0,
            )
        },
    )


def _file_record(path: str) -> FileRecord:
    return FileRecord(path=path, bytes=100, blake3=digest_of(path.encode()))
