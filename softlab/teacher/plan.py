"""Makes the plan of a dump: what is settled before its first row, and what its manifest repeats."""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.identity import keys_fingerprint, label_space_fingerprint
from softlab.labels.gap_step import choose_gap_step
from softlab.labels.gradient_angle import MANY_CLASSES, k_for_many
from softlab.labels.sampled_coding import HEAD_STEP, frequent_classes
from softlab.labels.selection import check_k
from softlab.labels.soft_labels import SoftLabels
from softlab.manifest import (
    ClassesRecord,
    CodingRecord,
    InputRecord,
    LabelSpaceRecord,
    OutputRecord,
    SampledRecord,
    Selection,
    SelectionRecord,
    SkippedRecord,
    SourceRecord,
    StorePlan,
    TeacherRecord,
    TokensReadRecord,
    ValuesRecord,
    check_plan,
    in_version_1,
    version_to_go_on,
)
from softlab.modalities.modality import choose_field, decoding_for, modality_of, model_arguments, options_by_name
from softlab.models.attention import ATTENTION, attention_of
from softlab.models.outputs import WantedOutput
from softlab.models.weights import weights_fingerprint
from softlab.shards import (
    MAX_SHARD_ROWS,
)
from softlab.sources.source import Source
from softlab.teacher.counted_units import UNCOUNTED, CountedUnits
from softlab.teacher.dumped_views import Settled, ViewsToDump
from softlab.teacher.forward import Teacher, TeacherOutput
from softlab.teacher.options import DEFAULT_K, DumpOptions, default_k
from softlab.teacher.storage_plan import plan_storage

TOKENS = "tokens"
"""The name of what the teacher has read, among the outputs."""

FREQUENT = 8192
"""Classes of sampled rows that have a rank of their own, as far as they are known when a plan is made."""


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
    counted: CountedUnits = UNCOUNTED,
    most_rows: int = MAX_SHARD_ROWS,
) -> StorePlan:
    """The plan of a dump. `seen` is how another teacher, or the one that began, had these samples decoded.

    `example` is the teacher's output for some samples: it gives the shapes and, unless it is settled, the step of the
    uint8 coding. `weights` is the teacher's fingerprint, by default that of its module. `counted` is what all samples
    tell of units, `most_rows` how many samples a shard has at most, unless the options say it.
    Raises InvalidOption for a plan that can't be.
    """
    settled = settled or Settled()
    _check_class_names(teacher, example)
    read = _tokens_read(teacher, example)
    plan = StorePlan(
        format="softlab",
        format_version=version_to_go_on(len(source), settled.format_version),
        kind="soft-labels",
        softlab_version=version("softlab"),
        libraries=_libraries(teacher, seen),
        teacher=_teacher_record(
            teacher, options, weights=weights or weights_fingerprint(teacher.module), settled=settled
        ),
        views=views.record,
        outputs=(
            *(
                _output_record(each, teacher, source, options, example, settled, counted.following_C)
                for each in options.wanted_outputs
            ),
            *([] if read is None else [read]),
        ),
        storage=plan_storage(
            options,
            example,
            read=read,
            num_samples=len(source),
            most_units=counted.most,
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
    following_C: NDArray[np.int64] | None,
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
        coding=_coding_record(options, labels, settled=settled.codings.get(wanted.name), following_C=following_C),
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


def _coding_record(
    options: DumpOptions,
    labels: SoftLabels,
    *,
    settled: CodingRecord | None,
    following_C: NDArray[np.int64] | None,
) -> CodingRecord:
    if labels.is_sampled:
        if settled is not None and settled.frequent is not UNSET:
            return settled
        frequent = frequent_classes(labels, most=FREQUENT, known_C=following_C)
        return CodingRecord(logits="uint8", gap_step=HEAD_STEP, frequent=frequent, gaps_first=True)
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


def _teacher_record(teacher: Teacher, options: DumpOptions, *, weights: str, settled: Settled) -> TeacherRecord:
    return TeacherRecord(
        model=teacher.name,
        arguments=plain({**teacher.arguments, **_attention(teacher, settled)}),
        weights_fingerprint=weights,
        num_parameters=sum(parameter.numel() for parameter in teacher.module.parameters()),
        precision="float32" if options.device.autocast == "none" else options.device.autocast,
    )


def _attention(teacher: Teacher, settled: Settled) -> dict[str, str]:
    """Told as an argument also where it wasn't given; not beside a dump that was begun without telling it."""
    used, begun = attention_of(teacher.module), settled.arguments
    return {} if used is None or (begun is not None and ATTENTION not in begun) else {ATTENTION: used}


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


def _libraries(teacher: Teacher, seen: Sequence[InputRecord]) -> dict[str, str]:
    decoding = decoding_for(modality_of(teacher.input), (teacher.input,), seen)
    names = dict.fromkeys(["torch", *decoding.libraries, "zarr", "pyarrow"])
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {name: version(name) for name in names}


def plain(values: Mapping[str, object]) -> dict[str, Any]:
    """As JSON would hold them, so that a plan read back equals the one that was written."""
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    except TypeError as error:
        raise InvalidOption(f"model arguments {dict(values)}: {error}. Use numbers, strings and lists.") from error
    return plain
