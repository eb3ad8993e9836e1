"""Manifests of format 1, which had one classifier output and one kind of input: read as manifests of today, and written
back to the bytes that they were.

| format 1 | here |
| --- | --- |
| `label_space`, `selection`, `coding` | the output `logits`, of kind `classes` |
| `features` | outputs of kind `values` |
| `teacher.finishing` | the only input, of images |
| `statistics` | those of the output `logits` |

The arrays keep their places: `labels/class_ids`, `features/NAME`.
"""

from typing import Any, Literal

import msgspec

from softlab.manifest.outputs import (
    ClassesRecord,
    CodingRecord,
    LabelSpaceRecord,
    OutputRecord,
    SelectionRecord,
    ValuesRecord,
)
from softlab.manifest.records import Manifest, StorePlan
from softlab.manifest.seen import InputRecord, SourceRecord, ViewsRecord
from softlab.manifest.statistics import Statistics
from softlab.manifest.storage import FieldRecord, FileRecord, ShardRecord, StorageRecord
from softlab.manifest.teacher import TeacherRecord
from softlab.manifest.value_types import Count, Fingerprint, Positive, Record

OUTPUT = "logits"
"""The name of the only output of kind `classes`, unless a feature has it."""


class TeacherRecord1(Record, frozen=True, kw_only=True):
    model: str
    arguments: dict[str, Any]
    weights_fingerprint: Fingerprint
    num_parameters: Count
    finishing: dict[str, Any]
    precision: str


class LabelSpaceRecord1(Record, frozen=True, kw_only=True):
    num_classes: Positive
    class_names: tuple[str, ...] | None
    fingerprint: Fingerprint
    head: Literal["softmax", "sigmoid"] = "softmax"


class FeatureRecord1(Record, frozen=True, kw_only=True):
    name: str
    layer: str
    pooling: str


class StorageRecord1(Record, frozen=True, kw_only=True):
    format: Literal["zarr", "parquet"]
    shard_rows: Positive
    fields: tuple[FieldRecord, ...]


class ShardRecord1(Record, frozen=True, kw_only=True, gc=False):
    view: Count
    start: Count
    stop: Positive
    files: tuple[FileRecord, ...]
    statistics: Statistics


class Manifest1(Record, frozen=True, kw_only=True):
    """As it was written."""

    format: Literal["softlab"]
    format_version: Literal[1]
    kind: Literal["soft-labels"]
    softlab_version: str
    libraries: dict[str, str]
    teacher: TeacherRecord1
    source: SourceRecord
    label_space: LabelSpaceRecord1
    views: ViewsRecord
    selection: SelectionRecord
    coding: CodingRecord
    features: tuple[FeatureRecord1, ...]
    storage: StorageRecord1
    parent: Fingerprint | None
    source_fingerprint: Fingerprint
    samples_file: FileRecord
    layout_files: tuple[FileRecord, ...]
    shards: tuple[ShardRecord1, ...]
    statistics: Statistics
    digest_files: tuple[FileRecord, ...] = ()


AS_THEY_WERE = (
    "format",
    "format_version",
    "kind",
    "softlab_version",
    "libraries",
    "source",
    "views",
    "parent",
    "source_fingerprint",
    "samples_file",
    "layout_files",
    "digest_files",
)


def from_version_1(old: Manifest1) -> Manifest:
    """The manifest of today that says the same."""
    space, teacher, storage = old.label_space, old.teacher, old.storage
    name = _name_beside([each.name for each in old.features])
    labels = ClassesRecord(
        name=name,
        taken_from="output",
        head=space.head,
        label_space=LabelSpaceRecord(
            num_classes=space.num_classes, class_names=space.class_names, fingerprint=space.fingerprint
        ),
        selection=old.selection,
        coding=old.coding,
    )
    features = [ValuesRecord(name=each.name, taken_from=f"layer:{each.layer}:{each.pooling}") for each in old.features]
    return Manifest(
        **{name: getattr(old, name) for name in AS_THEY_WERE},
        teacher=TeacherRecord(
            model=teacher.model,
            arguments=teacher.arguments,
            weights_fingerprint=teacher.weights_fingerprint,
            num_parameters=teacher.num_parameters,
            precision=teacher.precision,
        ),
        inputs=(InputRecord(field="image", modality="images", options=teacher.finishing),),
        outputs=(labels, *features),
        storage=StorageRecord(format=storage.format, shard_rows=storage.shard_rows, fields=storage.fields),
        shards=tuple(_shard_from_version_1(shard, name) for shard in old.shards),
        statistics={name: old.statistics},
    )


def to_version_1(manifest: Manifest) -> Manifest1:
    """The inverse. A store of format 1 stays one when views are added to it or a part of it is pulled."""
    (labels,), teacher, storage = manifest.classes, manifest.teacher, manifest.storage
    space = labels.label_space
    return Manifest1(
        **{name: getattr(manifest, name) for name in AS_THEY_WERE},
        teacher=TeacherRecord1(
            model=teacher.model,
            arguments=teacher.arguments,
            weights_fingerprint=teacher.weights_fingerprint,
            num_parameters=teacher.num_parameters,
            finishing=manifest.inputs[0].options,
            precision=teacher.precision,
        ),
        label_space=LabelSpaceRecord1(
            num_classes=space.num_classes,
            class_names=space.class_names,
            fingerprint=space.fingerprint,
            head=labels.head,
        ),
        selection=_selection_of(labels),
        coding=labels.coding,
        features=tuple(_feature_to_version_1(output) for output in manifest.values),
        storage=StorageRecord1(format=storage.format, shard_rows=storage.shard_rows, fields=storage.fields),
        shards=tuple(
            ShardRecord1(
                view=shard.view,
                start=shard.start,
                stop=shard.stop,
                files=shard.files,
                statistics=shard.statistics[labels.name],
            )
            for shard in manifest.shards
        ),
        statistics=manifest.statistics[labels.name],
    )


def in_version_1(plan: StorePlan) -> StorePlan | None:
    """The same plan with its arrays where format 1 had them, to go on with a store of that format; None for what format
    1 could not hold."""
    if len(plan.classes) != 1 or plan.has_units or plan.classes[0].valid or not plan.classes[0].absolute:
        return None
    if plan.classes[0].is_sampled:
        return None
    if any(output.coding != "float16" for output in plan.values):
        return None
    places = {f"{plan.group_of(output)}/values": f"features/{output.name}" for output in plan.values}
    here = plan.group_of(plan.classes[0])
    fields = tuple(
        msgspec.structs.replace(field, name=places.get(field.name) or field.name.replace(here, "labels", 1))
        for field in plan.storage.fields
    )
    name = _name_beside([output.name for output in plan.values])
    labels = msgspec.structs.replace(plan.classes[0], name=name, taken_from="output")
    outputs: tuple[OutputRecord, ...] = (labels, *plan.values)
    return msgspec.structs.replace(
        plan,
        format_version=1,
        outputs=outputs,
        storage=msgspec.structs.replace(plan.storage, fields=fields),
    )


def in_version_2(plan: StorePlan) -> StorePlan:
    """A plan of format 1 as one of today's, its arrays where they are now; any other plan as it is."""
    if plan.format_version != 1:
        return plan
    new = msgspec.structs.replace(plan, format_version=2)
    fields = []
    for field in plan.storage.fields:
        output = plan.output_of(field)
        name = "values" if isinstance(output, ValuesRecord) else field.short_name
        fields.append(msgspec.structs.replace(field, name=f"{new.group_of(output)}/{name}"))
    return msgspec.structs.replace(new, storage=msgspec.structs.replace(plan.storage, fields=tuple(fields)))


def _selection_of(labels: ClassesRecord) -> SelectionRecord:
    assert isinstance(labels.selection, SelectionRecord), "format 1 has no other"
    return labels.selection


def _name_beside(features: list[str]) -> str:
    """Of the output of kind `classes`: no two outputs have one name."""
    return next(name for name in (OUTPUT + "_" * number for number in range(len(features) + 1)) if name not in features)


def _shard_from_version_1(shard: ShardRecord1, output: str) -> ShardRecord:
    return ShardRecord(
        view=shard.view,
        start=shard.start,
        stop=shard.stop,
        files=shard.files,
        statistics={output: shard.statistics},
    )


def _feature_to_version_1(output: ValuesRecord) -> FeatureRecord1:
    layer, _, pooling = output.taken_from.removeprefix("layer:").rpartition(":")
    return FeatureRecord1(name=output.name, layer=layer, pooling=pooling)
