import inspect
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from softlab.manifest import TransformRecord
from softlab.modalities.images.views import transforms
from softlab.modalities.images.views.described import ALLOWED, NEEDED, PARAMETERS, describe_transform
from softlab.modalities.images.views.transforms import (
    Transform,
    build_transform,
    parse_transform,
)
from tests.modalities.images.views.calls import CALLS, random_image

# Shape letters: C channels (1 grey, 3 RGB), H height, W width.

SEEDS = range(25)
"""Enough that a transform of probability 0.5 is and isn't applied."""


def as_json(record: TransformRecord) -> bytes:
    return msgspec.json.encode(record, order="deterministic")


def from_json(data: bytes) -> TransformRecord:
    """What a manifest holds."""
    return msgspec.json.decode(data, type=TransformRecord)


def apply_with(seed: int, transform: Transform, image_CHW: Tensor) -> Tensor:
    torch.manual_seed(seed)
    return transform(image_CHW)


# What is built.


def test_every_allowed_transform_is_tried_here() -> None:
    assert sorted(parse_transform(text).name for text in CALLS) == sorted(ALLOWED)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", CALLS)
def test_a_transform_makes_another_uint8_image_and_leaves_the_first_as_it_was(text: str, channels: int) -> None:
    transform, image_CHW = build_transform(parse_transform(text)), random_image(channels)
    before_CHW = image_CHW.clone()

    for seed in SEEDS:
        changed_CHW = apply_with(seed, transform, image_CHW)

        assert changed_CHW.dtype == torch.uint8
        assert changed_CHW.ndim == 3
        assert changed_CHW.shape[0] in (1, 3)
        assert torch.equal(image_CHW, before_CHW)


@pytest.mark.parametrize("text", CALLS)
def test_what_a_manifest_holds_draws_the_same_as_torchvisions_own_transform(text: str) -> None:
    own: Transform = eval(text, vars(v2).copy())
    image_CHW = random_image()

    stored = build_transform(from_json(as_json(parse_transform(text))))
    for seed in SEEDS:
        assert torch.equal(apply_with(seed, stored, image_CHW), apply_with(seed, own, image_CHW))


def test_choices_are_torchvisions_enumerations() -> None:
    blocky = build_transform(parse_transform("Resize([30, 30], interpolation='nearest')"))
    learnt = build_transform(parse_transform("AutoAugment('cifar10', 'bilinear')"))
    torchvisions = v2.AutoAugment(AutoAugmentPolicy.CIFAR10, InterpolationMode.BILINEAR)
    image_CHW = random_image()

    assert torch.equal(blocky(image_CHW), v2.Resize([30, 30], InterpolationMode.NEAREST)(image_CHW))
    for seed in SEEDS:
        assert torch.equal(apply_with(seed, learnt, image_CHW), apply_with(seed, torchvisions, image_CHW))


@pytest.mark.parametrize("name", ALLOWED)
def test_the_listed_parameters_and_defaults_are_torchvisions(name: str) -> None:
    assert [*PARAMETERS[name]] == transforms._parameters(name)
    assert {key: value for key, value in PARAMETERS[name].items() if value is not NEEDED} == transforms._defaults(name)


def test_transforms_hold_transforms() -> None:
    text = "RandomOrder([RandomApply([RandomChoice([RandomInvert(1.0), CenterCrop(9)], p=[1, 2])], 0.5), Pad(1)])"
    flat = v2.RandomChoice([v2.RandomInvert(1.0), v2.CenterCrop(9)], p=[1, 2])
    expected = v2.RandomOrder([v2.RandomApply([flat], 0.5), v2.Pad(1)])
    image_CHW = random_image()

    found = build_transform(parse_transform(text))

    results = [apply_with(seed, found, image_CHW) for seed in SEEDS]
    assert len({tuple(result_CHW.shape) for result_CHW in results}) == 3  # of Pad alone, and with CenterCrop before it
    for seed, result_CHW in zip(SEEDS, results, strict=True):
        assert torch.equal(result_CHW, apply_with(seed, expected, image_CHW))


# What is recorded.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RandomHorizontalFlip", "RandomHorizontalFlip(p=0.5)"),
        ("RandomHorizontalFlip()", " RandomHorizontalFlip( 0.5 )\n"),
        ("RandomCrop(28, 2)", "RandomCrop(padding=2, size=28)"),
        ("RandomCrop(28, [2, 3])", "RandomCrop(28, padding=(2, 3))"),
        ("RandomErasing(0.5, (0.02, 0.33), (0.3, 3.3), 0.0)", "RandomErasing"),
        ("RandomApply([RGB()], 0.5)", "RandomApply(p=0.5, transforms=(RGB(),))"),
        ("Pad(-1)", "Pad(padding=-1, fill=0)"),
    ],
)
def test_two_ways_to_write_a_call_are_one_record(one: str, other: str) -> None:
    assert as_json(parse_transform(one)) == as_json(parse_transform(other))


@pytest.mark.parametrize("text", CALLS)
def test_every_argument_is_recorded_but_those_that_are_not_for_a_recipe_to_choose(text: str) -> None:
    record = parse_transform(text)

    parameters = list(inspect.signature(getattr(v2, record.name)).parameters)
    assert list(record.arguments) == [parameter for parameter in parameters if parameter != "inplace"]


def test_defaults_are_recorded_as_plain_values() -> None:
    crop, policy = parse_transform("RandomResizedCrop(8)"), parse_transform("AutoAugment")

    assert crop.arguments | {"interpolation": "bilinear", "antialias": True} == crop.arguments
    assert (crop.arguments["scale"], crop.arguments["ratio"]) == ([0.08, 1.0], [3 / 4, 4 / 3])
    assert policy.arguments == {"policy": "imagenet", "interpolation": "nearest", "fill": None}


def test_defaults_inside_other_transforms_are_recorded_too() -> None:
    inner = {"name": "RandomHorizontalFlip", "arguments": {"p": 0.5}}

    assert parse_transform("RandomApply([RandomHorizontalFlip()])").arguments == {"transforms": [inner], "p": 0.5}


# What is described.


def calls(*, depth: int) -> st.SearchStrategy[str]:
    """Calls with all kinds of arguments."""
    probability = st.floats(0, 1) | st.sampled_from([0, 1])
    flat = [
        st.builds("RandomHorizontalFlip({})".format, probability),
        st.builds("Resize([{}, {}], antialias={})".format, st.integers(1, 99), st.integers(1, 99), st.booleans()),
        st.builds("RandomCrop({}, padding={}, fill={!r})".format, st.integers(1, 99), st.integers(-3, 9), pixels()),
        st.builds("RandomErasing({}, value={!r})".format, probability, pixels()),
        st.builds("RandomRotation({}, center={}, expand={})".format, degrees(), centres(), st.booleans()),
        st.builds("Resize(9, {!r})".format, st.sampled_from([mode.value for mode in InterpolationMode])),
        st.builds("AutoAugment({!r})".format, st.sampled_from([policy.value for policy in AutoAugmentPolicy])),
        st.builds("ColorJitter(hue=({}, {}))".format, st.floats(-0.5, 0), st.floats(0, 0.5)),
        st.sampled_from([text for text in CALLS if "RandomChoice" not in text]),
    ]  # fmt: skip
    if not depth:
        return st.one_of(flat)
    inner = st.lists(calls(depth=depth - 1), min_size=1, max_size=3).map(", ".join)
    nested = [
        st.builds("RandomApply([{}], {})".format, inner, probability),
        st.builds("RandomOrder([{}])".format, inner),
        st.builds("RandomChoice([{}])".format, inner),
    ]
    return st.one_of(*flat, *nested)


def pixels() -> st.SearchStrategy[Any]:
    return st.integers(0, 255) | st.floats(0, 255) | st.lists(st.integers(0, 255), min_size=3, max_size=3)


def degrees() -> st.SearchStrategy[Any]:
    return st.integers(0, 180) | st.tuples(st.floats(-180, 0), st.floats(0, 180))


def centres() -> st.SearchStrategy[Any]:
    return st.none() | st.tuples(st.floats(0, 20), st.floats(0, 20))


@given(calls(depth=3))
@example("RandomErasing(value=0)")  # equal to the default, 0.0, but not in JSON
def test_a_description_is_read_as_the_same_record(text: str) -> None:
    record = parse_transform(text)
    from_manifest = from_json(as_json(record))

    assert as_json(parse_transform(describe_transform(record))) == as_json(record)
    assert describe_transform(from_manifest) == describe_transform(record)


def test_a_description_leaves_defaults_out() -> None:
    record = parse_transform("RandomApply([RandomCrop(28, padding=2, fill=0), RandomHorizontalFlip(0.5)], p=0.3)")

    assert describe_transform(record) == (
        "RandomApply(transforms=[RandomCrop(size=28, padding=2), RandomHorizontalFlip()], p=0.3)"
    )
