"""Makes the plan of a dump: what is settled before its first row, and what its manifest repeats."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import UNSET
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.identity import keys_fingerprint, label_space_fingerprint
from softlab.labels.coding import LabelCoding
from softlab.labels.gap_step import choose_gap_step
from softlab.labels.gradient_angle import MANY_CLASSES, k_for_many
from softlab.labels.sampled_arrays import ENTRY_ARRAYS, ROW_ARRAYS, SAMPLE_ARRAYS, token_dtype
from softlab.labels.sampled_coding import HEAD_STEP, SampledCoding, frequent_classes
from softlab.labels.selection import check_k
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.values_coding import arrays_of_values
from softlab.manifest import (
    ENTRIES,
    SAMPLES,
    ClassesRecord,
    CodingRecord,
    FieldRecord,
    InputRecord,
    LabelSpaceRecord,
    OutputRecord,
    SampledRecord,
    Selection,
    SelectionRecord,
    SkippedRecord,
    SourceRecord,
    StorageRecord,
    StorePlan,
    TeacherRecord,
    TokensReadRecord,
    ValuesRecord,
    check_plan,
    in_version_1,
)
from softlab.modalities.modality import choose_field, decoding_for, modality_of, model_arguments, options_by_name
from softlab.models.outputs import WantedOutput
from softlab.models.weights import weights_fingerprint
from softlab.shards import (
    MAX_CHUNK_ROWS,
    MAX_SHARD_ROWS,
    check_shard_rows,
    choose_chunk_rows,
    choose_shard_rows,
    row_bytes,
)
from softlab.sources.source import Source
from softlab.teacher.dumped_views import Settled, ViewsToDump
from softlab.teacher.forward import Teacher, TeacherOutput
from softlab.teacher.options import DEFAULT_K, DumpOptions, default_k

UNIT_DTYPE = "uint32"

TOKENS = "tokens"
"""The name of what the teacher has read, among the outputs."""

FREQUENT = 8192
"""Classes of sampled rows that have a rank of their own, as far as the samples have them that a plan is made from."""

LONG_CHUNK_ROWS = 1 << 16
"""Of arrays with a byte or two a row: shorter chunks compress worse."""

Shapes = dict[str, tuple[Any, tuple[int, ...]]]
"""By the short name of an array: its dtype, and the shape of a row."""


def choose_k(
    options: DumpOptions, *, num_classes: int, logits_RC: Tensor | None = None, settled: int | None = None
) -> int:
    """What the options say; else all of few classes, or 16. Of many classes what a dump in the same folder has
    `settled`, or as many as some of the teacher's logits ask for. Raises InvalidOption if more are asked for than there
    are."""
    k = default_k(num_classes) if options.k is None else options.k
    was_default = settled == DEFAULT_K  # of few classes too, before all of them were kept
    if options.k is None and settled is not None and (was_default or chooses_k(options, num_classes=num_classes)):
        k = min(settled, num_classes)
    elif logits_RC is not None and len(logits_RC) and chooses_k(options, num_classes=num_classes):
        k = k_for_many(logits_RC, temperature=min(options.temperature))
    check_k(k, num_classes=num_classes)
    return k


def chooses_k(options: DumpOptions, *, num_classes: int) -> bool:
    """Whether K depends on what the teacher says."""
    asked = options.k is not None or options.head != "softmax" or options.has_valid or options.selection == "sampled"
    return num_classes > MANY_CLASSES and not asked


def make_plan(
    teacher: Teacher,
    source: Source,
    options: DumpOptions,
    views: ViewsToDump,
    *,
    example: TeacherOutput,
    weights: str | None = None,
    settled: Settled | None = None,
    seen: Sequence[InputRecord] = (),
    most_units: int | None = None,
    most_rows: int = MAX_SHARD_ROWS,
) -> StorePlan:
    """The plan of a dump. `seen` is how another teacher, or the one that began, had these samples decoded.

    `example` is the teacher's output for some samples: it gives the shapes and, unless it is settled, the step of the
    uint8 coding. `weights` is the teacher's fingerprint, by default that of its module. `most_units` is how many rows a
    sample has at most in outputs with units, `most_rows` how many samples a shard has at most, unless the options say
    it. Raises InvalidOption for a plan that can't be.
    """
    settled = settled or Settled()
    _check_class_names(teacher, example)
    read = _tokens_read(teacher, example)
    plan = StorePlan(
        format="softlab",
        format_version=2,
        kind="soft-labels",
        softlab_version=version("softlab"),
        libraries=_libraries(teacher),
        teacher=_teacher_record(teacher, options, weights or weights_fingerprint(teacher.module)),
        views=views.record,
        outputs=(
            *(_output_record(each, teacher, source, options, example, settled) for each in options.wanted_outputs),
            *([] if read is None else [read]),
        ),
        storage=plan_storage(
            options,
            example,
            read=read,
            num_samples=len(source),
            most_units=most_units,
            most_rows=most_rows,
            settled=settled,
        ),
        inputs=(_input_record(teacher, source, seen),),
        parent=views.parent,
        source=SourceRecord(
            name=source.name,
            num_samples=len(source),
            keys_fingerprint=keys_fingerprint(source.keys),
            skipped=tuple(SkippedRecord(key=item.key, reason=item.reason) for item in source.skipped),
            chosen_from=views.chosen_from,
        ),
    )
    check_plan(plan)
    if settled.format_version == 1:
        return in_version_1(plan) or plan
    return plan


def _tokens_read(teacher: Teacher, example: TeacherOutput) -> TokensReadRecord | None:
    """Where what the teacher has read is stored."""
    told = model_arguments(teacher.input) if example.read is not None else {}
    if not told:
        return None
    return TokensReadRecord(name=TOKENS, vocabulary=told["vocab_size"], most=told["max_length"])


def _output_record(
    wanted: WantedOutput,
    teacher: Teacher,
    source: Source,
    options: DumpOptions,
    example: TeacherOutput,
    settled: Settled,
) -> OutputRecord:
    has_units = wanted.name in example.with_units
    if wanted.kind == "values":
        return ValuesRecord(
            name=wanted.name,
            taken_from=wanted.taken_from,
            units=has_units,
            other_coding=UNSET if options.values_coding == "float16" else options.values_coding,
        )
    labels = example.labels[wanted.name]
    class_names = class_names_of(teacher, source, num_classes=labels.num_classes)
    return ClassesRecord(
        name=wanted.name,
        taken_from=wanted.taken_from,
        head=options.head,
        label_space=LabelSpaceRecord(
            num_classes=labels.num_classes,
            class_names=class_names,
            fingerprint=label_space_fingerprint(labels.num_classes, class_names),
        ),
        selection=_selection_record(options, labels),
        coding=_coding_record(options, labels, settled=settled.codings.get(wanted.name)),
        absolute=labels.absolute,
        interpolates=UNSET if labels.interpolates else False,
        units=has_units,
        valid=options.has_valid,
        masked=True if options.masked else UNSET,
    )


def _selection_record(options: DumpOptions, labels: SoftLabels) -> Selection:
    if labels.is_sampled:
        return SampledRecord(resolution=options.resolution)
    return SelectionRecord(k=labels.k, temperatures=labels.temperatures)


def _coding_record(options: DumpOptions, labels: SoftLabels, *, settled: CodingRecord | None) -> CodingRecord:
    if labels.is_sampled:
        if settled is not None and settled.frequent is not UNSET:
            return settled
        return CodingRecord(logits="uint8", gap_step=HEAD_STEP, frequent=frequent_classes(labels, most=FREQUENT))
    if options.coding != "uint8":
        return CodingRecord(logits=options.coding, gap_step=None)
    return CodingRecord(logits="uint8", gap_step=options.gap_step or _step(settled) or choose_gap_step(labels))


def _step(settled: CodingRecord | None) -> float | None:
    return None if settled is None else settled.gap_step


def class_names_of(teacher: Teacher, source: Source, *, num_classes: int) -> tuple[str, ...] | None:
    """The teacher's own names, or else the source's, where there are as many as classes."""
    known = (teacher.class_names, source.class_names)
    return next((names for names in known if names is not None and len(names) == num_classes), None)


def _check_class_names(teacher: Teacher, example: TeacherOutput) -> None:
    """Raises InvalidOption for names of another number of classes."""
    names, counts = teacher.class_names, [labels.num_classes for labels in example.labels.values()]
    if names is not None and len(names) not in counts:
        found = " and ".join(f"{count:,}" for count in counts) or "no"
        raise InvalidOption(
            f"`class_names` has {len(names):,} names, but {teacher.name} has {found} classes. Name each class once, in "
            f"the teacher's order."
        )


def coding_for(options: DumpOptions, labels: SoftLabels) -> LabelCoding:
    """How the labels of one output become arrays, but for the step of the uint8 coding."""
    return LabelCoding(
        coding=options.coding,
        num_classes=labels.num_classes,
        temperatures=labels.temperatures,
        head=labels.head,
        has_valid=options.has_valid,
        masked=options.masked,
    )


def plan_storage(
    options: DumpOptions,
    example: TeacherOutput,
    *,
    num_samples: int,
    read: TokensReadRecord | None = None,
    most_units: int | None = None,
    most_rows: int = MAX_SHARD_ROWS,
    settled: Settled | None = None,
) -> StorageRecord:
    """Which arrays a store has, and how they are cut into shards and chunks. Where a shard's room for units is settled,
    `most_units` need not be known."""
    settled = settled or Settled()
    arrays = [array for wanted in options.wanted_outputs for array in _arrays_of(wanted, options, example)]
    arrays += [] if read is None else _arrays_read(read)
    units, shard_rows = most_units or 1, settled.shard_rows if options.shard_rows is None else options.shard_rows
    if shard_rows is None:
        per_sample = sum(array.row_bytes * array.rows_of_sample(units) for array in arrays)
        shard_rows = min(choose_shard_rows(per_sample, num_samples=num_samples), most_rows)
    largest = max(array.row_bytes * array.rows_of_sample(units) for array in arrays)
    check_shard_rows(shard_rows, largest_row_bytes=largest)
    shard_units = None
    if example.with_units:
        shard_units = settled.shard_units or 1 << (shard_rows * units - 1).bit_length()
    fields = tuple(
        FieldRecord(
            name=array.name,
            dtype=array.dtype,
            row_shape=array.row_shape,
            chunk_rows=choose_chunk_rows(
                array.row_bytes,
                shard_rows=(shard_units if shard_units and array.is_of_units else shard_rows) * array.entries,
                most_rows=array.most_chunk_rows,
            ),
        )
        for array in arrays
    )
    return StorageRecord(format=options.format, shard_rows=shard_rows, shard_units=shard_units, fields=fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Array:
    name: str
    dtype: Any
    row_shape: tuple[int, ...]
    is_of_units: bool
    """Whether it has a row for each unit of a sample."""

    entries: int = 1
    """Rows that it has for each of these at most."""

    most_chunk_rows: int = MAX_CHUNK_ROWS

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.dtype, self.row_shape)

    def rows_of_sample(self, units: int) -> int:
        """At most, of a sample with so many units."""
        return self.entries * (units if self.is_of_units else 1)


def _arrays_of(wanted: WantedOutput, options: DumpOptions, example: TeacherOutput) -> list[_Array]:
    has_units, prefix = wanted.name in example.with_units, f"outputs/{wanted.name}/"
    if wanted.kind == "classes" and example.labels[wanted.name].is_sampled:
        return _sampled_arrays(example.labels[wanted.name], prefix=prefix, has_units=has_units)
    shapes = _shapes_of(wanted, options, example) | ({"unit": (UNIT_DTYPE, ())} if has_units else {})
    return [
        _Array(name=f"{prefix}{name}", dtype=dtype, row_shape=shape, is_of_units=has_units)
        for name, (dtype, shape) in shapes.items()
    ]


def _shapes_of(wanted: WantedOutput, options: DumpOptions, example: TeacherOutput) -> Shapes:
    if wanted.kind == "values":
        return arrays_of_values(options.values_coding, tuple(example.values[wanted.name].shape[1:]))
    labels = example.labels[wanted.name]
    coding = coding_for(options, labels)
    shapes: Shapes = {
        "class_ids": (coding.class_id_dtype, (labels.k,)),
        "logits": (coding.logit_dtype, (labels.k,)),
        "max_logit": (coding.float_dtype, ()),
        "log_tail": (coding.float_dtype, (len(labels.temperatures),)),
    }
    shapes |= {"valid": (coding.valid_dtype, ())} if options.has_valid else {}
    return shapes | ({"valid_bits": ("uint8", (coding.valid_bytes,))} if options.masked else {})


def _arrays_read(read: TokensReadRecord) -> list[_Array]:
    group, dtype = f"outputs/{read.name}", token_dtype(read.vocabulary)
    make = partial(_Array, row_shape=(), is_of_units=False, most_chunk_rows=LONG_CHUNK_ROWS)
    counts = [make(name=f"{group}{SAMPLES}/{name}", dtype=dtype) for name, dtype in SAMPLE_ARRAYS.items()]
    return [*counts, make(name=f"{group}{ENTRIES}/token_ids", dtype=dtype, entries=read.most)]


def _sampled_arrays(labels: SoftLabels, *, prefix: str, has_units: bool) -> list[_Array]:
    """Those of the rows, of the counts of their entries, and of these, each group behind the other."""
    coding = SampledCoding(num_classes=labels.num_classes, resolution=labels.k - 1)
    of_rows: dict[str, str] = ({"unit": UNIT_DTYPE} if has_units else {}) | dict(ROW_ARRAYS)
    make = partial(_Array, row_shape=(), most_chunk_rows=LONG_CHUNK_ROWS)
    group = prefix.rstrip("/")
    return [
        *(make(name=f"{prefix}{name}", dtype=dtype, is_of_units=has_units) for name, dtype in of_rows.items()),
        *(
            make(name=f"{group}{SAMPLES}/{name}", dtype=dtype, is_of_units=False)
            for name, dtype in SAMPLE_ARRAYS.items()
        ),
        *(
            make(
                name=f"{group}{ENTRIES}/{name}",
                dtype=dtype or coding.class_id_dtype,
                is_of_units=has_units,
                entries=labels.k,
            )
            for name, dtype in ENTRY_ARRAYS.items()
        ),
    ]


def _teacher_record(teacher: Teacher, options: DumpOptions, weights: str) -> TeacherRecord:
    return TeacherRecord(
        model=teacher.name,
        arguments=plain(teacher.arguments),
        weights_fingerprint=weights,
        num_parameters=sum(parameter.numel() for parameter in teacher.module.parameters()),
        precision="float32" if options.device.autocast == "none" else options.device.autocast,
    )


def _input_record(teacher: Teacher, source: Source, seen: Sequence[InputRecord]) -> InputRecord:
    """Of samples that were seen before, decoding is recorded as it was: not at all in a store that says nothing."""
    modality = modality_of(teacher.input)
    before = next((each for each in seen if each.modality == modality.name), None)
    bound = decoding_for(modality, (teacher.input,), seen)
    decode = getattr(bound, "decode_record", UNSET)
    return InputRecord(
        field=choose_field(bound, source.field_names, where=source.name),
        modality=modality.name,
        options=plain(options_by_name(teacher.input)),
        decode=decode if before is None else before.decode,
    )


def _libraries(teacher: Teacher) -> dict[str, str]:
    names = dict.fromkeys(["torch", *modality_of(teacher.input).libraries, "zarr", "pyarrow"])
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {name: version(name) for name in names}


def plain(values: Mapping[str, object]) -> dict[str, Any]:
    """As JSON would hold them, so that a plan read back equals the one that was written."""
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    except TypeError as error:
        raise InvalidOption(f"model arguments {dict(values)}: {error}. Use numbers, strings and lists.") from error
    return plain
