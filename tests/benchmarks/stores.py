"""Synthetic stores of any size: random logits through the real selection, coding and writer."""

# Shape letters: B rows in a block, K entries kept.

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from softlab.identity import ContentHashes, content_hash, digest_of
from softlab.keys import Keys
from softlab.labels.coding import Coding, LabelCoding
from softlab.labels.selection import keep_top_k
from softlab.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    ShardRecord,
    Statistics,
    StorePlan,
    add_up_by_output,
    encode,
)
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.views import NoViews, record_views
from softlab.shards import Shard
from softlab.sources.source import Sample
from softlab.store.access import writing
from softlab.store.format import FormatName
from softlab.store.label_coding import coding_of
from softlab.store.samples import SampleTable
from softlab.teacher.dumped_views import ViewsToDump
from softlab.teacher.forward import TeacherOutput
from softlab.teacher.options import DumpOptions
from softlab.teacher.plan import make_plan
from softlab.teacher.planning import as_teacher

NUM_BLOCKS, BLOCK_ROWS = 4, 8192
"""Compressed chunks hold 4,096 rows at most: none has a row twice."""


class RandomLogits(nn.Module):
    """Says something different about every image, at no cost that matters: a table of logits, looked up by pixel."""

    def __init__(self, *, num_classes: int, num_rows: int = 65_536) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(3 * torch.randn(num_rows, num_classes, generator=generator), requires_grad=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        source_B = (images_BCHW.flatten(1) * 255).round().long() @ torch.tensor([1, 256])
        return self.table[source_B % len(self.table)]


class BlankImages:
    """A source of images of two pixels, which spell the sample number."""

    name = "blank"
    class_names = None
    targets: ClassVar[dict[str, NDArray[np.int64]]] = {}
    field_names = ("image",)
    skipped = ()

    def __init__(self, num_samples: int) -> None:
        self.keys = Keys(str(number) for number in range(num_samples))

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Sample:
        pixels = np.array([[[index % 256, index // 256 % 256]]], dtype=np.uint8)
        return Sample(
            index=index,
            key=self.keys[index],
            fields={"image": pixels},
            content_hash=content_hash(index.to_bytes(8, "little")),
            place=self.name,
        )


def write_synthetic_store(
    path: Path,
    *,
    form: FormatName,
    num_samples: int,
    coding: Coding = "float16",
    k: int = 16,
    num_classes: int = 1000,
    feature_width: int | None = None,
    shard_rows: int | None = None,
    samples: SampleTable | None = None,
    is_finished: bool = True,
) -> Path:
    """T = 1, 2, 4, and a feature `wide` of that width if one is given. A few blocks of rows are drawn, coded by the
    real coding, and written again and again by the real writer: 12.8 million rows take no teacher, and half a minute.
    A dump that isn't finished has all of its shards.
    """
    num_blocks = min(NUM_BLOCKS, -(-num_samples // BLOCK_ROWS))
    blocks = [
        _draw_block(number, k=k, num_classes=num_classes, feature_width=feature_width) for number in range(num_blocks)
    ]
    plan = _plan(form, coding, blocks[0], num_samples=num_samples, shard_rows=shard_rows)
    label_coding = coding_of(plan.classes[0])
    assert isinstance(label_coding, LabelCoding), "it is of the largest logits"
    encoded = [_encode(label_coding, block) for block in blocks]
    samples = samples or _samples(num_samples)
    unknown = ContentHashes.from_bytes(bytes(16 * num_samples))
    with writing(path, plan, expected=lambda: replace(samples, content_hashes=unknown)) as writer:
        for shard in writer.pending:
            arrays = {
                name: _fill(shard, [block[name] for block in encoded]) for name in (f.name for f in plan.storage.fields)
            }
            statistics = Statistics(
                rows=shard.num_rows,
                rows_with_target=0,
                correct=0,
                captured_mass=(0.5 * shard.num_rows,) * len(plan.classes[0].selection.temperatures),
                clipped_logits=0,
            )
            hashes = list(samples.content_hashes[shard.start : shard.stop])
            writer.write(shard, arrays=arrays, content_hashes=hashes, statistics={"logits": statistics})
        if is_finished:
            writer.finalize(samples)
    return path


def write_manifest_alone(
    path: Path, *, num_shards: int, rows_per_shard: int = 16, samples_file: FileRecord | None = None
) -> Path:
    """A folder with nothing but the manifest of a store of so many shards: enough to open it."""
    block = _draw_block(0, k=16, num_classes=1000, feature_width=None)
    plan = _plan("zarr", "float16", block, num_samples=1, shard_rows=rows_per_shard)
    source = msgspec.structs.replace(plan.source, num_samples=num_shards * rows_per_shard)  # without their keys
    plan = msgspec.structs.replace(plan, source=source)
    shards = tuple(
        ShardRecord(
            view=shard.view,
            start=shard.start,
            stop=shard.stop,
            files=tuple(_file(f"{field.name}/c/{shard.part}") for field in plan.storage.fields),
            statistics={
                "logits": Statistics(
                    rows=shard.num_rows, rows_with_target=0, correct=0, captured_mass=(1.0, 1.0, 1.0), clipped_logits=0
                )
            },
        )
        for shard in plan.grid
    )
    manifest = Manifest(
        **{name: getattr(plan, name) for name in StorePlan.__struct_fields__},
        source_fingerprint=digest_of(b"source"),
        samples_file=samples_file or _file("samples.parquet"),
        layout_files=(),
        shards=shards,
        statistics=add_up_by_output(shards),
    )
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST_NAME).write_bytes(encode(manifest))
    return path


def _draw_block(seed: int, *, k: int, num_classes: int, feature_width: int | None) -> TeacherOutput:
    """The k largest of some classes, spread over all of them in each row by an offset of its own."""
    generator = torch.Generator().manual_seed(seed)
    num_drawn = min(num_classes, max(1000, 2 * k))
    labels = keep_top_k(3 * torch.randn(BLOCK_ROWS, num_drawn, generator=generator), k=k)
    offsets_B1 = torch.randint(num_classes, (BLOCK_ROWS, 1), generator=generator)
    ids_BK = (labels.class_ids_BK * (num_classes // num_drawn) + offsets_B1) % num_classes
    values = {}
    if feature_width is not None:
        values["wide"] = torch.randn(BLOCK_ROWS, feature_width, generator=generator).half()
    return TeacherOutput(
        labels={"logits": replace(labels, class_ids_BK=ids_BK, num_classes=num_classes)},
        values=values,
        is_finite_B=torch.ones(BLOCK_ROWS, dtype=torch.bool),
    )


def _plan(
    form: FormatName, coding: Coding, block: TeacherOutput, *, num_samples: int, shard_rows: int | None = None
) -> StorePlan:
    options = DumpOptions(
        k=block.labels["logits"].k,
        format=form,
        coding=coding,
        feature=dict.fromkeys(block.values, "hidden"),
        pixel_digests="none",
        shard_rows=shard_rows,
    )
    views = ViewsToDump(record=record_views(NoViews(), num_views=1, digest_every=0))
    teacher = as_teacher(nn.Linear(1, 1), input=ImageInput())
    return make_plan(teacher, BlankImages(num_samples), options, views, example=block)


def _encode(coding: LabelCoding, block: TeacherOutput) -> dict[str, NDArray[Any]]:
    labels = {f"outputs/logits/{name}": array for name, array in coding.encode(block.labels["logits"]).items()}
    return labels | {f"outputs/{name}/values": values.numpy() for name, values in block.values.items()}


def _fill(shard: Shard, blocks: list[NDArray[Any]]) -> NDArray[Any]:
    """The blocks in turn, from another one in each shard."""
    turned = [blocks[(shard.part + number) % len(blocks)] for number in range(-(-shard.num_rows // BLOCK_ROWS))]
    return np.concatenate(turned)[: shard.num_rows]


def _samples(num_samples: int) -> SampleTable:
    return SampleTable(
        keys=[str(number) for number in range(num_samples)],
        targets_N=None,
        content_hashes=[content_hash(number.to_bytes(8, "little")) for number in range(num_samples)],
    )


def _file(path: str) -> FileRecord:
    return FileRecord(path=path, bytes=100_000, blake3=digest_of(path.encode()))
