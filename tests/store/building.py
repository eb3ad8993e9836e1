"""Small stores for tests: a plan, random rows for it, and both written to disk."""

# Shape letters: V views, N samples, C classes.

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import UNSET

from softlab.disk import list_files
from softlab.identity import content_hash, keys_fingerprint
from softlab.labels.coding import GAP_STEP, Coding, LabelCoding
from softlab.labels.selection import keep_top_k
from softlab.labels.values_coding import ValuesCoding, arrays_of_values
from softlab.manifest import (
    ClassesRecord,
    CodingRecord,
    FieldRecord,
    LabelSpaceRecord,
    Manifest,
    SelectionRecord,
    SourceRecord,
    Statistics,
    StorageRecord,
    StorePlan,
    ValuesRecord,
    ViewsRecord,
)
from softlab.shards import Shard
from softlab.store.access import writing
from softlab.store.format import Array, Arrays, FormatName
from softlab.store.pixel_digests import is_digested
from softlab.store.samples import SampleTable
from softlab.store.writer import StoreWriter
from tests.manifests import LABELS, make_manifest
from tests.store.format_reader import unrotated

FORMATS: tuple[FormatName, ...] = ("zarr", "parquet")
CODINGS: tuple[Coding, ...] = ("float32", "float16", "uint8")
VALUES_CODINGS: tuple[ValuesCoding, ...] = ("float32", "float16", "int8", "int8_rotated")
CHUNK_ROWS = 2


def make_plan(
    *,
    format: FormatName = "zarr",
    coding: Coding = "float16",
    values_coding: ValuesCoding = "float16",
    num_samples: int = 11,
    num_views: int = 2,
    shard_rows: int = 4,
    num_classes: int = 20,
    k: int = 3,
    features: Mapping[str, tuple[int, ...]] = {"pooled": (6,)},
) -> StorePlan:
    """Two views of three shards, the last one ragged in its rows and its chunks; with one feature."""
    example = make_manifest()
    labels = LabelCoding(coding=coding, num_classes=num_classes, temperatures=(1.0, 4.0))
    shapes: dict[str, tuple[Any, tuple[int, ...], int]] = {
        "outputs/logits/class_ids": (labels.class_id_dtype, (k,), CHUNK_ROWS),
        "outputs/logits/logits": (labels.logit_dtype, (k,), CHUNK_ROWS),
        "outputs/logits/max_logit": (labels.float_dtype, (), shard_rows),
        "outputs/logits/log_tail": (labels.float_dtype, (2,), shard_rows),
    }
    for name, shape in features.items():
        arrays = arrays_of_values(values_coding, shape)
        shapes |= {f"outputs/{name}/{array}": (*described, CHUNK_ROWS) for array, described in arrays.items()}
    fields = tuple(
        FieldRecord(name=name, dtype=dtype, row_shape=shape, chunk_rows=chunk_rows)
        for name, (dtype, shape, chunk_rows) in shapes.items()
    )
    values = {name: getattr(example, name) for name in StorePlan.__struct_fields__} | {
        "source": SourceRecord(
            name="folder:pets",
            num_samples=num_samples,
            keys_fingerprint=example.source.keys_fingerprint,
            skipped=(),
        ),
        "views": ViewsRecord(num_views=num_views),
        "outputs": (
            ClassesRecord(
                name="logits",
                taken_from="output",
                label_space=LabelSpaceRecord(
                    num_classes=num_classes, class_names=None, fingerprint=LABELS.label_space.fingerprint
                ),
                selection=SelectionRecord(k=k, temperatures=labels.temperatures),
                coding=CodingRecord(logits=coding, gap_step=GAP_STEP if coding == "uint8" else None),
            ),
            *(values_record(name, taken_from="layer:layer4:mean", coding=values_coding) for name in features),
        ),
        "storage": StorageRecord(format=format, shard_rows=shard_rows, fields=fields),
    }
    return StorePlan(**values)


def values_record(name: str, *, taken_from: str, coding: ValuesCoding, units: bool = False) -> ValuesRecord:
    other_coding = UNSET if coding == "float16" else coding
    return ValuesRecord(name=name, taken_from=taken_from, units=units, other_coding=other_coding)


def make_logits(plan: StorePlan) -> torch.Tensor:
    """What a teacher may have said, [V * N, C]; the same at each call."""
    num_rows = plan.views.num_views * plan.source.num_samples
    return (
        3 * torch.randn(num_rows, plan.classes[0].label_space.num_classes, generator=torch.Generator().manual_seed(0))
        + 5
    )


def make_arrays(plan: StorePlan) -> dict[str, Array]:
    """All rows as they are stored, by field name, each [V, N, ...]; the same at each call."""
    (output,) = plan.classes
    selection = output.selection
    coding = LabelCoding(
        coding=output.coding.logits, num_classes=output.label_space.num_classes, temperatures=selection.temperatures
    )
    labels = coding.encode(keep_top_k(make_logits(plan), k=selection.k, temperatures=selection.temperatures))
    flat = {f"outputs/logits/{name}": array for name, array in labels.items()}
    random = np.random.default_rng(0)
    rows = (plan.views.num_views, plan.source.num_samples)
    for field in plan.storage.fields:
        if field.group != "outputs/logits":
            flat[field.name] = make_values(random, field.dtype, (*rows, *field.row_shape))
    return {field.name: flat[field.name].reshape(*rows, *field.row_shape) for field in plan.storage.fields}


def make_values(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Whatever an array of values, or of their scales, may hold; outliers are at the first places."""
    if dtype.startswith("uint"):
        return np.broadcast_to(np.arange(shape[-1], dtype=dtype), shape)
    return (20 * random.normal(size=shape)).clip(-127, 127).astype(dtype)


def plain_values(arrays: Mapping[str, Array]) -> Array:
    """float32, what the arrays of some rows of values stand for, by short name."""
    values = arrays["values"].astype(np.float32)
    if "outliers" in arrays:
        return unrotated(values, arrays)
    if "scale" not in arrays:
        return values
    return values * arrays["scale"].reshape(len(values), *[1] * (values.ndim - 1))


def make_samples(plan: StorePlan) -> SampleTable:
    numbers = range(plan.source.num_samples)
    return SampleTable(
        keys=[f"{number:03d}.png" for number in numbers],
        targets_N=np.array([number % plan.classes[0].label_space.num_classes for number in numbers]),
        content_hashes=[content_hash(str(number).encode()) for number in numbers],
    )


def write_shard(writer: StoreWriter, shard: Shard, arrays: Arrays, *, content_hashes: list[bytes] | None = None) -> int:
    """One shard of the rows that `make_arrays` makes, of samples as `make_samples` makes them if there are no
    `content_hashes`; its bytes on disk."""
    statistics = Statistics(
        rows=shard.num_rows,
        rows_with_target=shard.num_rows,
        correct=shard.num_rows - 1,
        captured_mass=(shard.num_rows * 0.9 + 0.1 * shard.part, shard.num_rows * 0.7 + 1e-9 * shard.view),
        clipped_logits=shard.part,
    )
    return writer.write(
        shard,
        arrays={name: array[shard.view, shard.start : shard.stop] for name, array in arrays.items()},
        content_hashes=content_hashes or list(make_samples(writer.plan).content_hashes[shard.start : shard.stop]),
        statistics={"logits": statistics},
        pixel_digests=[
            digest_of_view(shard.view, sample)
            for sample in range(shard.start, shard.stop)
            if is_digested(sample, view=shard.view, every=writer.plan.views.digest_every)
        ],
    )


def digest_of_view(view: int, sample: int) -> int:
    """What stands for the pixels of one view in these stores."""
    return (view + 1) * 2**60 + sample


def write_some(root: Path, plan: StorePlan, *, num_shards: int) -> None:
    """A dump that was interrupted after its next few shards."""
    arrays = make_arrays(plan)
    with writing(root, plan) as writer:
        for shard in writer.pending[:num_shards]:
            write_shard(writer, shard, arrays)


def write_store(root: Path, plan: StorePlan, *, arrays: Arrays | None = None) -> Manifest:
    """A finished store, of what `make_arrays` makes unless there are `arrays`; an interrupted one is gone on with."""
    arrays = arrays or make_arrays(plan)
    with writing(root, plan) as writer:
        for shard in writer.pending:
            write_shard(writer, shard, arrays)
        return writer.finalize(make_samples(plan))


FILES: dict[bytes, dict[str, bytes]] = {}
"""Of the stores that were written for `copy_store`, by their plans."""


def copy_store(root: Path, plan: StorePlan) -> None:
    """What `write_store` writes, which it does once for all tests that only need such a store."""
    key = msgspec.json.encode(plan)
    if key not in FILES:
        write_store(root, plan)
        FILES[key] = contents(root)
        return
    for name, data in FILES[key].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {name: (root / name).read_bytes() for name in list_files(root)}


def flip_byte(path: Path, *, position: int = -1) -> None:
    with path.open("r+b") as file:
        file.seek(position, os.SEEK_END if position < 0 else os.SEEK_SET)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x40]))


def with_digests(plan: StorePlan, *, every: int) -> StorePlan:
    """The same plan with a pixel digest of one view in so many."""
    return msgspec.structs.replace(plan, views=msgspec.structs.replace(plan.views, digest_every=every))


def with_arguments(plan: StorePlan, arguments: dict[str, object]) -> StorePlan:
    """The same plan for a teacher that was built with other arguments."""
    return msgspec.structs.replace(plan, teacher=msgspec.structs.replace(plan.teacher, arguments=arguments))


def changed_plans() -> dict[str, tuple[StorePlan, str]]:
    """Plans that differ in one thing from that of `make_plan`, and how this is told."""
    plan = make_plan()
    return {
        "teacher": (with_arguments(plan, {"num_classes": 6}), "`teacher.arguments.num_classes` was 5, is now 6"),
        "source": (
            msgspec.structs.replace(
                plan, source=msgspec.structs.replace(plan.source, keys_fingerprint=keys_fingerprint(["other"]))
            ),
            "the hash of the samples' keys (`source.path`) was ",
        ),
        "views": (make_plan(num_views=3), "`dump.views` was 2, is now 3"),
        "coding": (make_plan(coding="float32"), "`dump.coding` was 'float16', is now 'float32'"),
        "coding of values": (
            make_plan(values_coding="float32"),
            "`dump.values_coding` was 'float16', is now 'float32'",
        ),
        "scaled values": (make_plan(values_coding="int8"), "`dump.values_coding` was 'float16', is now 'int8'"),
        "k": (make_plan(k=4), "`dump.k` was 3, is now 4"),
        "shard size": (make_plan(shard_rows=8), "`dump.shard_rows` was 4, is now 8"),
        "format": (make_plan(format="parquet"), "`dump.format` was 'zarr', is now 'parquet'"),
    }
