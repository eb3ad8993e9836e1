import re
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from softlab.errors import InvalidOption, ModelError
from softlab.models.inherit import InheritOptions, inherit
from softlab.models.weights import weights_fingerprint

WIDTH = 8
ENCODER = {"embed": "embed", "encoder.layers.{i}": "encoder.layers.{i}", "head": "head"}
RESNET = {name: name for name in ("conv1", "bn1", "layer1.{i}", "layer2.{i}", "layer3.{i}", "layer4.{i}", "fc")}


def encoder(num_layers: int, *, width: int = WIDTH, num_classes: int = 3, seed: int = 0) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=16, batch_first=True)
    parts = OrderedDict[str, nn.Module](
        embed=nn.Linear(5, width),
        encoder=nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False),
        head=nn.Linear(width, num_classes),
    )
    return randomise(nn.Sequential(parts), seed=seed)


def resnet(*num_blocks: int, num_classes: int = 3, seed: int = 0) -> nn.Module:
    return randomise(ResNet(BasicBlock, list(num_blocks), num_classes=num_classes), seed=seed)


def randomise(module: nn.Module, *, seed: int) -> nn.Module:
    """Every value one of its own: torch makes the layers of an encoder, and all running means, alike."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        random = torch.rand(tensor.shape, generator=generator) + 0.1
        tensor.copy_(random if tensor.is_floating_point() else 1000 * random)
    return module


def assert_equal(student: nn.Module, name: str, teacher: nn.Module, source: str) -> None:
    """In the same values at different places."""
    ours, theirs = student.state_dict()[name], teacher.state_dict()[source]
    assert ours.equal(theirs)
    assert ours.data_ptr() != theirs.data_ptr()


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    return encoder(6, seed=1)


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, [0, 2, 4]),
        ({"first": 1}, [1, 3, 5]),
        ({"every": 1}, [0, 1, 2]),
        ({"every": 1, "first": 3}, [3, 4, 5]),
    ],
)
def test_each_layer_is_a_copy_of_the_teachers_layer_of_its_number(
    options: dict[str, Any], numbers: list[int], teacher: nn.Module
) -> None:
    student = encoder(3)

    inherited = inherit(student, teacher, InheritOptions(map=ENCODER, **options))

    assert list(inherited.copied) == list(student.state_dict())
    assert inherited.left == ()
    for name, source in inherited.copied.items():
        assert_equal(student, name, teacher, source)
    for number, taken in enumerate(numbers):
        for part in ("self_attn.in_proj_weight", "linear1.weight", "linear2.bias", "norm1.weight"):
            assert_equal(student, f"encoder.layers.{number}.{part}", teacher, f"encoder.layers.{taken}.{part}")


def test_a_student_as_deep_as_its_teacher_gives_the_same_output(teacher: nn.Module) -> None:
    student = encoder(6)

    inherit(student, teacher, InheritOptions(map=ENCODER, every=1))

    x = torch.rand(2, 4, 5)
    assert student.eval()(x).equal(teacher.eval()(x))
    assert weights_fingerprint(student) == weights_fingerprint(teacher)


def test_what_the_student_learns_does_not_reach_the_teacher(teacher: nn.Module) -> None:
    student, before = encoder(3), weights_fingerprint(teacher)
    inherit(student, teacher, InheritOptions(map=ENCODER))

    student(torch.rand(2, 4, 5)).sum().backward()
    torch.optim.SGD(student.parameters(), lr=1.0).step()

    assert weights_fingerprint(teacher) == before
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_buffers_are_copied_with_the_parameters() -> None:
    student, teacher = resnet(1, 2, 1, 1), resnet(2, 4, 1, 1, seed=1)

    inherited = inherit(student, teacher, InheritOptions(map=RESNET))

    assert set(inherited.copied) == set(student.state_dict())
    for name in ("conv1.weight", "bn1.running_mean", "bn1.num_batches_tracked", "layer2.0.downsample.1.running_var"):
        assert_equal(student, name, teacher, name)
    assert_equal(student, "layer2.1.bn2.running_var", teacher, "layer2.2.bn2.running_var")
    assert_equal(student, "layer2.1.bn2.num_batches_tracked", teacher, "layer2.2.bn2.num_batches_tracked")


def test_buffers_that_are_not_saved_keep_their_values() -> None:
    student, teacher = (nn.Sequential(nn.Linear(2, 2)) for _ in range(2))
    student[0].register_buffer("scratch", torch.zeros(3), persistent=False)

    inherited = inherit(student, teacher, InheritOptions(map={"0": "0"}))

    assert set(inherited.copied) == {"0.weight", "0.bias"}
    assert inherited.left == ()


def test_layers_counted_from_one_may_start_below_zero() -> None:
    student, teacher = (
        randomise(nn.Sequential(OrderedDict({f"conv{n}": nn.Conv2d(2, 2, 1) for n in numbers})), seed=seed)
        for seed, numbers in enumerate([(1, 2), (1, 2, 3)])
    )

    inherit(student, teacher, InheritOptions(map={"conv{i}": "conv{i}"}, first=-1))

    assert_equal(student, "conv1.weight", teacher, "conv1.weight")
    assert_equal(student, "conv2.weight", teacher, "conv3.weight")


def test_a_layer_may_have_another_name_in_the_teacher(teacher: nn.Module) -> None:
    student = randomise(nn.Sequential(nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3)), seed=2)

    inherited = inherit(student, teacher, InheritOptions(map={"0": "embed", "1": "head"}))

    assert inherited.copied == {
        "0.weight": "embed.weight",
        "0.bias": "embed.bias",
        "1.weight": "head.weight",
        "1.bias": "head.bias",
    }
    assert_equal(student, "1.bias", teacher, "head.bias")


def test_of_two_patterns_the_one_with_more_dots_counts(teacher: nn.Module) -> None:
    student = encoder(3)
    last = {"encoder.layers.2": "encoder.layers.5"}

    inherited = inherit(
        student, teacher, InheritOptions(map=ENCODER | {"encoder.layers.2.norm1": "encoder.layers.0.norm2"} | last)
    )

    assert inherited.copied["encoder.layers.2.norm1.weight"] == "encoder.layers.0.norm2.weight"
    assert inherited.copied["encoder.layers.1.norm1.weight"] == "encoder.layers.2.norm1.weight"


def test_fresh_layers_keep_their_values_whatever_their_shape(teacher: nn.Module) -> None:
    student = encoder(3, num_classes=7)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}

    inherited = inherit(student, teacher, InheritOptions(map=ENCODER, fresh=("head", "encoder.layers.{i}.norm1")))

    norms = [f"encoder.layers.{number}.norm1.{kind}" for number in range(3) for kind in ("weight", "bias")]
    assert inherited.left == (*norms, "head.weight", "head.bias")
    assert all(student.state_dict()[name].equal(before[name]) for name in inherited.left)
    assert not set(inherited.left) & set(inherited.copied)


def test_what_no_option_names_is_refused_unless_not_strict(teacher: nn.Module) -> None:
    student, layers_only = encoder(3), {"encoder.layers.{i}": "encoder.layers.{i}"}
    before = weights_fingerprint(student)

    with pytest.raises(ModelError) as raised:
        inherit(student, teacher, InheritOptions(map=layers_only, fresh=("embed",)))

    assert str(raised.value) == (
        "map: 2 of the student's weights are in neither `map` nor `fresh` (head.weight, head.bias). "
        "Name their layers in one of them, or set strict = false."
    )
    assert weights_fingerprint(student) == before
    inherited = inherit(student, teacher, InheritOptions(map=layers_only, strict=False))
    assert inherited.left == ("embed.weight", "embed.bias", "head.weight", "head.bias")


def test_values_are_cast_to_the_students_data_type(teacher: nn.Module) -> None:
    student = encoder(3).bfloat16()

    inherit(student, teacher, InheritOptions(map=ENCODER))

    weight = student.state_dict()["head.weight"]
    assert weight.equal(teacher.state_dict()["head.weight"].bfloat16())
    assert weight.dtype == torch.bfloat16


# Tied weights.


def tied(*, seed: int, is_tied: bool = True) -> nn.Module:
    embed, head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    if is_tied:
        head.weight = embed.weight
    return randomise(nn.Sequential(OrderedDict[str, nn.Module](embed=embed, head=head)), seed=seed)


@pytest.mark.parametrize("names", [["embed"], ["head"], ["embed", "head"]])
def test_tied_weights_are_inherited_under_any_of_their_names(names: list[str]) -> None:
    student, teacher = tied(seed=0), tied(seed=1)

    inherited = inherit(student, teacher, InheritOptions(map={name: name for name in names}))

    assert list(inherited.copied) == [f"{name}.weight" for name in names]
    assert inherited.left == ()
    assert student.get_parameter("head.weight") is student.get_parameter("embed.weight")
    assert_equal(student, "head.weight", teacher, "embed.weight")


def test_tied_weights_that_would_get_two_values_are_refused() -> None:
    student, teacher = tied(seed=0), tied(seed=1, is_tied=False)

    with pytest.raises(ModelError, match=r"embed\.weight and head\.weight are one tensor.* Name one of .* in `fresh`"):
        inherit(student, teacher, InheritOptions(map={"embed": "embed", "head": "head"}))

    inherit(student, teacher, InheritOptions(map={"embed": "embed", "head": "head"}, fresh=("embed",)))
    assert_equal(student, "embed.weight", teacher, "head.weight")


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"map": {"encoder.layer.{i}": "encoder.layers.{i}"}},
            "map: the student has no layer encoder.layer.{i}. Did you mean encoder.layers.{i}",
        ),
        (
            {"map": {"encoder.layers.{i}": "encoder.layer.{i}"}},
            "map: the teacher has no layer encoder.layer.{i}. Did you mean encoder.layers.{i}",
        ),
        ({"map": {"head": "haed"}}, "map: the teacher has no layer haed. Did you mean head"),
        ({"map": ENCODER, "fresh": ("heads",)}, "fresh: the student has no layer heads. Did you mean head"),
        (
            {"map": {"encoder.layers.{i}": "encoder.layers.{i}"}, "every": 3},
            "map: the student's encoder.layers.2 takes the teacher's encoder.layers.6 (0 + 2 * 3), but the teacher has "
            "encoder.layers.0 to encoder.layers.5. Change `first` or `every`, or give the student fewer layers.",
        ),
        (
            {"map": {"encoder.layers.{i}": "encoder.layers.{i}"}, "first": -1},
            "map: the student's encoder.layers.0 takes the teacher's encoder.layers.-1 (-1 + 0 * 2), but",
        ),
        (
            {"map": {"head": "encoder.layers.0.self_attn"}},
            "map: the student's head.weight takes the teacher's encoder.layers.0.self_attn.weight, which it doesn't "
            "have. Did you mean encoder.layers.",
        ),
    ],
)
def test_layers_that_are_not_there_are_refused_with_the_nearest(
    options: dict[str, Any], message: str, teacher: nn.Module
) -> None:
    student = encoder(3)
    before = weights_fingerprint(student)

    with pytest.raises(ModelError, match=re.escape(message)):
        inherit(student, teacher, InheritOptions(**options))

    assert weights_fingerprint(student) == before


def test_a_part_that_only_the_students_layer_has_is_refused_or_left() -> None:
    student, teacher = resnet(1, 1, 1, 1), resnet(1, 2, 1, 1, seed=1)
    options: dict[str, Any] = {"map": {"layer2.{i}": "layer2.{i}"}, "first": 1, "strict": False}

    with pytest.raises(ModelError, match=r"takes the teacher's layer2\.1\.downsample\.0\.weight, which .* `fresh`\."):
        inherit(student, teacher, InheritOptions(**options, fresh=("layer2.0.conv1",)))

    inherited = inherit(student, teacher, InheritOptions(**options, fresh=("layer2.0.conv1", "layer2.0.downsample")))
    assert inherited.copied["layer2.0.conv2.weight"] == "layer2.1.conv2.weight"


def test_shapes_that_differ_are_all_found_before_anything_is_copied(teacher: nn.Module) -> None:
    student = encoder(3, num_classes=7)
    before = weights_fingerprint(student)

    with pytest.raises(ModelError) as raised:
        inherit(student, teacher, InheritOptions(map=ENCODER))

    assert str(raised.value) == (
        "map: 2 of 40 shapes differ: the student's head.weight (7, 8) and the teacher's head.weight (3, 8); "
        "the student's head.bias (7,) and the teacher's head.bias (3,). "
        "Build the student as wide as the teacher there, or name these layers in `fresh`, or in `grow` where the "
        "student has more outputs."
    )
    assert weights_fingerprint(student) == before


def test_only_the_first_of_many_shapes_are_shown(teacher: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"map: \d+ of 40 shapes differ: .*embed\.weight \(4, 5\) .*; \.\.\.\. Build"):
        inherit(encoder(3, width=4), teacher, InheritOptions(map=ENCODER))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": {}}, "map: names no layer. Give STUDENT_LAYER = TEACHER_LAYER"),
        ({"map": {"blocks.*": "blocks.{i}"}}, "map: 'blocks.*' isn't the name of a layer. Write one like"),
        ({"map": {"blocks.{i}": "blocks."}}, "map: 'blocks.' isn't the name of a layer. Write one like"),
        ({"map": {"blocks.{i}": "blocks"}}, "map: blocks.{i} = blocks has {i} on one side only. Write it on both"),
        ({"map": {"head": "blocks.{i}"}}, "map: head = blocks.{i} has {i} on one side only. Write it on both"),
        ({"map": {"head": "head"}, "every": 0}, "every = 0: expected 1 or more. Set every = 2 for every second layer."),
        ({"map": {"head": "head"}, "fresh": ("norm*",)}, "fresh: 'norm*' isn't the name of a layer. Write one like"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        InheritOptions(**options)


# Layers with more outputs.


def test_a_classifier_of_more_classes_begins_with_the_teachers(teacher: nn.Module) -> None:
    student = encoder(3, num_classes=5, seed=2)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}

    inherited = inherit(student, teacher, InheritOptions(map=ENCODER, grow=("head",)))

    ours, theirs = student.state_dict(), teacher.state_dict()
    for name in ("head.weight", "head.bias"):
        assert ours[name][:3].equal(theirs[name])
        assert ours[name][3:].equal(before[name][3:])
    assert inherited.left == ()


@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_layer_grows_only_where_that_is_asked_for_and_possible(teacher: nn.Module, num_classes: int) -> None:
    grow = () if num_classes == 5 else ("head",)

    with pytest.raises(ModelError, match="or in `grow` where the student has more outputs"):
        inherit(encoder(3, num_classes=num_classes), teacher, InheritOptions(map=ENCODER, grow=grow))
