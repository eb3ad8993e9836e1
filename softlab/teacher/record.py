"""What a dump will be, settled before its first row: the plan that its manifest repeats."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from softlab.errors import InvalidOption
from softlab.identity import keys_fingerprint, label_space_fingerprint
from softlab.labels.coding import LabelCoding
from softlab.labels.gap_step import choose_gap_step
from softlab.labels.selection import check_k, sorted_temperatures
from softlab.manifest import (
    ClassesRecord,
    CodingRecord,
    FieldRecord,
    InputRecord,
    LabelSpaceRecord,
    SelectionRecord,
    SkippedRecord,
    SourceRecord,
    StorageRecord,
    StorePlan,
    TeacherRecord,
    ValuesRecord,
    ViewsRecord,
    check_plan,
)
from softlab.modalities.modality import choose_field, modality_of, options_by_name
from softlab.models.weights import weights_fingerprint
from softlab.shards import check_shard_rows, choose_chunk_rows, choose_shard_rows, row_bytes
from softlab.sources.source import Source
from softlab.teacher.forward import Teacher, TeacherOutput
from softlab.teacher.options import DEFAULT_K, DumpOptions

FEATURE_DTYPE = "float16"


def choose_k(options: DumpOptions, *, num_classes: int) -> int:
    """Raises InvalidOption if more logits are asked for than there are classes."""
    k = min(DEFAULT_K, num_classes) if options.k is None else options.k
    check_k(k, num_classes=num_classes)
    return k


def make_plan(
    teacher: Teacher,
    source: Source,
    options: DumpOptions,
    views: ViewsRecord,
    *,
    example: TeacherOutput,
    gap_step: float | None = None,
    parent: str | None = None,
    chosen_from: int | None = None,
) -> StorePlan:
    """The plan of a dump; `example` is the teacher's output for some samples, and gives the shapes and, unless one
    is settled, the step of the uint8 coding. `parent` is the digest of the store that it adds views to, `chosen_from`
    the number of samples that the recipe of its views counts, where that is another one."""
    num_classes = example.labels.num_classes
    temperatures = sorted_temperatures(options.temperature)
    coding = LabelCoding(coding=options.coding, num_classes=num_classes, temperatures=temperatures)
    class_names = class_names_of(source, num_classes=num_classes)
    plan = StorePlan(
        format="softlab",
        format_version=2,
        kind="soft-labels",
        softlab_version=version("softlab"),
        libraries=_libraries(teacher),
        teacher=_teacher_record(teacher, options),
        source=SourceRecord(
            name=source.name,
            num_samples=len(source),
            keys_fingerprint=keys_fingerprint(source.keys),
            skipped=tuple(SkippedRecord(key=item.key, reason=item.reason) for item in source.skipped),
            chosen_from=chosen_from,
        ),
        inputs=(_input_record(teacher, source),),
        views=views,
        outputs=(
            ClassesRecord(
                name="logits",
                taken_from="output",
                head=options.head,
                label_space=LabelSpaceRecord(
                    num_classes=num_classes,
                    class_names=class_names,
                    fingerprint=label_space_fingerprint(num_classes, class_names),
                ),
                selection=SelectionRecord(method="topk", k=example.labels.k, temperatures=temperatures),
                coding=_coding_record(options, example, settled=gap_step),
            ),
            *(
                ValuesRecord(name=name, taken_from=f"layer:{tap.layer}:{tap.pooling}")
                for name, tap in options.taps.items()
            ),
        ),
        storage=plan_storage(options, coding, example, num_samples=len(source)),
        parent=parent,
    )
    check_plan(plan)
    return plan


def _coding_record(options: DumpOptions, example: TeacherOutput, *, settled: float | None) -> CodingRecord:
    if options.coding != "uint8":
        return CodingRecord(logits=options.coding, gap_step=None)
    return CodingRecord(logits="uint8", gap_step=options.gap_step or settled or choose_gap_step(example.labels))


def class_names_of(source: Source, *, num_classes: int) -> tuple[str, ...] | None:
    """The source's names, where it has as many classes as the teacher."""
    names = source.class_names
    return names if names is not None and len(names) == num_classes else None


def plan_storage(
    options: DumpOptions, coding: LabelCoding, example: TeacherOutput, *, num_samples: int
) -> StorageRecord:
    """Which arrays a store has, and how they are cut into shards and chunks."""
    k, num_temperatures = example.labels.k, len(coding.temperatures)
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "outputs/logits/class_ids": (coding.class_id_dtype, (k,)),
        "outputs/logits/logits": (coding.logit_dtype, (k,)),
        "outputs/logits/max_logit": (coding.float_dtype, ()),
        "outputs/logits/log_tail": (coding.float_dtype, (num_temperatures,)),
    }
    for name, feature in example.features.items():
        shapes[f"outputs/{name}/values"] = (FEATURE_DTYPE, tuple(feature.shape[1:]))
    sizes = {name: row_bytes(dtype, shape) for name, (dtype, shape) in shapes.items()}
    shard_rows = options.shard_rows
    if shard_rows is None:
        shard_rows = choose_shard_rows(sum(sizes.values()), num_samples=num_samples)
    check_shard_rows(shard_rows, largest_row_bytes=max(sizes.values()))
    fields = tuple(
        FieldRecord(
            name=name,
            dtype=dtype,
            row_shape=shape,
            chunk_rows=choose_chunk_rows(sizes[name], shard_rows=shard_rows),
        )
        for name, (dtype, shape) in shapes.items()
    )
    return StorageRecord(format=options.format, shard_rows=shard_rows, fields=fields)


def _teacher_record(teacher: Teacher, options: DumpOptions) -> TeacherRecord:
    return TeacherRecord(
        model=teacher.name,
        arguments=_plain(teacher.arguments),
        weights_fingerprint=weights_fingerprint(teacher.module),
        num_parameters=sum(parameter.numel() for parameter in teacher.module.parameters()),
        precision="float32" if options.autocast == "none" else options.autocast,
    )


def _input_record(teacher: Teacher, source: Source) -> InputRecord:
    modality = modality_of(teacher.input)
    return InputRecord(
        field=choose_field(modality, source.field_names, where=source.name),
        modality=modality.name,
        options=_plain(options_by_name(teacher.input)),
    )


def _libraries(teacher: Teacher) -> dict[str, str]:
    names = dict.fromkeys(["torch", *modality_of(teacher.input).libraries, "zarr", "pyarrow"])
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {name: version(name) for name in names}


def _plain(values: Mapping[str, object]) -> dict[str, Any]:
    """As JSON would hold them, so that a plan read back equals the one that was written."""
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    except TypeError as error:
        raise InvalidOption(f"model arguments {dict(values)}: {error}. Use numbers, strings and lists.") from error
    return plain
