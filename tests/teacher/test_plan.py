# Shape letters: N samples.

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn

from softlab.errors import InvalidOption, OddLabels
from softlab.identity import keys_fingerprint, label_space_fingerprint
from softlab.labels.selection import keep_top_k
from softlab.loading.sample_check import comparable_targets
from softlab.manifest import SkippedRecord, StorePlan, ViewsRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.models.weights import weights_fingerprint
from softlab.sources.source import SkippedSample
from softlab.teacher.dumped_views import ViewsToDump
from softlab.teacher.forward import Teacher, TeacherOutput
from softlab.teacher.options import DumpOptions
from softlab.teacher.plan import choose_k, make_plan
from softlab.teacher.planning import as_teacher, with_teachers_classes
from tests.teacher.dumping import NUM_CLASSES, Pictures, make_options, make_teacher


def plan(
    teacher: nn.Module | Teacher | None = None,
    pictures: Pictures | None = None,
    options: DumpOptions | None = None,
    *,
    num_classes: int = NUM_CLASSES,
    features: dict[str, tuple[int, ...]] | None = None,
) -> StorePlan:
    options = options or make_options()
    module = make_teacher() if teacher is None else teacher
    kept = TeacherOutput(
        labels={"logits": keep_top_k(torch.zeros(2, num_classes), k=options.k or 1, temperatures=options.temperature)},
        values={name: torch.zeros(2, *shape, dtype=torch.half) for name, shape in (features or {}).items()},
        is_finite_B=torch.ones(2, dtype=torch.bool),
    )
    named = module if isinstance(module, Teacher) else as_teacher(module)
    return make_plan(named, pictures or Pictures(), options, ViewsToDump(record=ViewsRecord(num_views=1)), example=kept)


@pytest.mark.parametrize(
    ("k", "num_classes", "expected"),
    [(None, 1000, 16), (None, 65, 16), (None, 64, 64), (None, 10, 10), (10, 10, 10), (1, 10, 1)],
)
def test_all_of_few_classes_are_kept_and_else_sixteen_unless_said_otherwise(
    k: int | None, num_classes: int, expected: int
) -> None:
    assert choose_k(DumpOptions(k=k), num_classes=num_classes) == expected


def test_a_dump_of_few_classes_that_was_begun_with_sixteen_goes_on_with_them() -> None:
    assert choose_k(DumpOptions(), num_classes=20, settled=16) == 16
    assert choose_k(DumpOptions(), num_classes=20, settled=5) == 20  # by another option, which isn't repeated
    assert choose_k(DumpOptions(k=20), num_classes=20, settled=16) == 20


def test_more_logits_than_classes_are_refused() -> None:
    with pytest.raises(InvalidOption, match=re.escape("the teacher has 10 classes. Choose `dump.k` from 1 to 10.")):
        choose_k(DumpOptions(k=11), num_classes=10)


def test_the_teacher_is_told_by_its_weights_and_how_it_is_run() -> None:
    module = make_teacher()
    input = ImageInput(channels=3, mean=(0.1, 0.2, 0.3), std=(1.0,))
    teacher = Teacher(module=module, name="timm:x", arguments={"size": (2, 3), "drop": 0.1}, input=input)

    made = plan(teacher, options=make_options(autocast="bfloat16"))
    record, (used,) = made.teacher, made.inputs

    assert record.model == "timm:x"
    assert record.arguments == {"size": [2, 3], "drop": 0.1}  # as JSON gives it back
    assert record.weights_fingerprint == weights_fingerprint(module)
    assert record.num_parameters == sum(parameter.numel() for parameter in module.parameters())
    assert used.options["mean"] == [0.1, 0.2, 0.3]
    recorded_apart = {"background", "value_range", "jpeg", "shrink", "max_pixels", "interpolation", "antialias"}
    assert used.options.keys() == {field.name for field in dataclasses.fields(ImageInput)} - recorded_apart
    assert used.decode == {"rules": 2, "background": "white"}
    assert (used.field, used.modality) == ("image", "images")
    assert record.precision == "bfloat16"
    assert plan(teacher).teacher.precision == "float32"


def test_a_module_of_ones_own_is_named_by_its_class() -> None:
    record = plan(nn.Sequential()).teacher

    assert record.model == "torch.nn.modules.container:Sequential"
    assert (record.arguments, record.num_parameters) == ({}, 0)


def test_arguments_that_no_manifest_can_hold_are_refused() -> None:
    teacher = Teacher(module=nn.Sequential(), name="x:y", arguments={"norm": object()}, input=ImageInput())

    with pytest.raises(InvalidOption, match=re.escape("Use numbers, strings and lists.")):
        plan(teacher)


def test_the_source_is_told_by_its_keys_and_what_was_left_out() -> None:
    pictures = Pictures(skipped=(SkippedSample(key="broken.png", reason="truncated"),))

    record = plan(pictures=pictures).source

    assert record.name == "memory:pictures"
    assert record.num_samples == len(pictures)
    assert record.keys_fingerprint == keys_fingerprint(pictures.keys)
    assert record.skipped == (SkippedRecord(key="broken.png", reason="truncated"),)


def test_class_names_are_the_sources_where_there_are_as_many_as_classes() -> None:
    names = Pictures().class_names

    assert plan().classes[0].label_space.class_names == names
    assert plan().classes[0].label_space.fingerprint == label_space_fingerprint(NUM_CLASSES, names)
    assert plan(num_classes=1000).classes[0].label_space.class_names is None
    assert plan(num_classes=1000).classes[0].label_space.fingerprint == label_space_fingerprint(1000, None)
    assert plan(pictures=Pictures(class_names=None)).classes[0].label_space.class_names is None


def test_targets_that_count_other_classes_than_the_teachers_are_not_compared() -> None:
    targets_N = np.arange(50) % NUM_CLASSES
    named, nameless = Pictures(targets_N=targets_N), Pictures(targets_N=targets_N, class_names=None)

    assert comparable_targets(named, num_classes=NUM_CLASSES) is targets_N
    assert comparable_targets(named, num_classes=1000) is None
    assert comparable_targets(nameless, num_classes=1000) is targets_N
    assert comparable_targets(Pictures(), num_classes=NUM_CLASSES) is None


@pytest.mark.parametrize(
    ("coding", "num_classes", "dtypes"),
    [
        ("float32", NUM_CLASSES, ["uint16", "float32", "float32", "float32"]),
        ("float16", 65_536, ["uint16", "float16", "float16", "float16"]),
        ("uint8", 65_537, ["uint32", "uint8", "float16", "float16"]),
    ],
)
def test_fields_have_the_dtypes_of_the_coding(coding: str, num_classes: int, dtypes: list[str]) -> None:
    options = make_options(coding=coding, temperature=(4.0, 1.0))

    found = plan(options=options, num_classes=num_classes)

    assert [(field.name, field.row_shape) for field in found.storage.fields] == [
        ("outputs/logits/class_ids", (5,)),
        ("outputs/logits/logits", (5,)),
        ("outputs/logits/max_logit", ()),
        ("outputs/logits/log_tail", (2,)),
    ]
    assert [field.dtype for field in found.storage.fields] == dtypes
    assert found.classes[0].selection.temperatures == (1.0, 4.0)
    assert (found.classes[0].coding.gap_step is not None) == (coding == "uint8")


def test_features_are_float16_fields_behind_the_labels() -> None:
    options = make_options(feature={"map": "conv", "pool": "relu:mean"})

    found = plan(options=options, features={"map": (2, 4, 6), "pool": (2,)})

    fields = [(field.name, field.dtype, field.row_shape) for field in found.storage.fields[4:]]
    assert fields == [("outputs/map/values", "float16", (2, 4, 6)), ("outputs/pool/values", "float16", (2,))]
    assert [(value.name, value.taken_from) for value in found.values] == [
        ("map", "layer:conv:none"),
        ("pool", "layer:relu:mean"),
    ]


def test_shards_are_sized_by_bytes_unless_said_otherwise() -> None:
    assert plan().storage.shard_rows == 16
    assert plan(options=make_options(shard_rows=None)).storage.shard_rows == 64
    assert plan(options=make_options(shard_rows=None), pictures=Pictures(count=10**6)).storage.shard_rows == 1 << 16


@pytest.mark.parametrize("shard_rows", [0, 1 << 29])
def test_a_shard_size_that_no_store_can_have_is_refused(shard_rows: int) -> None:
    with pytest.raises(InvalidOption, match=r"Choose `dump\.shard_rows` in that range, or leave it out"):
        plan(options=make_options(shard_rows=shard_rows))


def test_a_teacher_of_other_weights_makes_another_plan() -> None:
    module = make_teacher()
    with torch.no_grad():
        module.get_submodule("classifier").get_parameter("bias")[3] += 1e-6

    assert plan(module) != plan()
    assert make_options(workers=3) != make_options()
    assert plan(options=make_options(workers=3)) == plan()  # how it is run changes no value


OWN_NAMES = tuple(f"kind {number}" for number in range(20))


def named(names: tuple[str, ...]) -> Teacher:
    return Teacher(module=make_teacher(), name="my:net", arguments={}, input=ImageInput(), class_names=names)


@pytest.mark.parametrize("theirs", [None, ("cat", "dog")])
def test_a_teachers_own_class_names_stand_where_the_source_has_other_classes(theirs: tuple[str, ...] | None) -> None:
    made = plan(named(OWN_NAMES), pictures=Pictures(class_names=theirs))

    assert made.classes[0].label_space.class_names == OWN_NAMES


def test_class_names_that_are_too_few_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"has 19 names, but my:net has 20 classes\. Name each class once"):
        plan(named(OWN_NAMES[1:]), pictures=Pictures(class_names=None))


def test_targets_are_counted_as_the_teacher_names_its_classes() -> None:
    """But of a source that has further classes too: they may be new ones for students."""
    teacher, fewer = named(OWN_NAMES), Pictures(count=2, class_names=OWN_NAMES[3:5], targets_N=np.array([0, 1]))
    more = Pictures(class_names=(*OWN_NAMES, "a new kind"))

    with pytest.warns(OddLabels, match="2 of 20 there"):
        known = with_teachers_classes(fewer, teacher)

    assert known.targets["label"].tolist() == [3, 4]
    assert with_teachers_classes(more, teacher) is more
