import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from softlab.errors import InvalidOption
from softlab.manifest import TransformRecord
from softlab.modalities.images.views.described import ALLOWED, describe_transform
from softlab.modalities.images.views.transforms import build_transform, parse_transform


def from_json(text: str) -> TransformRecord:
    """What a manifest holds."""
    return msgspec.json.decode(text, type=TransformRecord)


# What a person writes.

WRITE_A_CALL = "Write a call of a torchvision v2 transform, such as RandomCrop(28, padding=2)."
NO_LITERAL = "is neither a number, a string, a transform, nor a list of such"
NOT_PLAIN = "isn't a finite number up to 65,536, a string, or a list of such. Change it."
NO_CALL = "not a name with its arguments. "

REFUSALS = {
    "RandomCrap(28)": "transform 'RandomCrap' isn't one that views are made of. Did you mean RandomCrop or",
    "Normalize([0.5], [0.5])": "are not augmentations: they are the options of [input].",
    "ToDtype(1)": "transform 'ToDtype' isn't one that views are made of.",
    "RandomApply([Lambda(1)])": "transform 'Lambda' isn't one that views are made of.",
    "RandomCrop(28, paddin=2)": "transform RandomCrop has no argument 'paddin'. Did you mean padding",
    "RandomErasing(inplace=True)": "transform RandomErasing has no argument 'inplace'. Known: p, scale, ratio, value.",
    "RandomApply([RandomCrop(28, paddin=2)])": "transform RandomCrop has no argument 'paddin'. Did you mean padding",
    "RandomCrop": f"transform 'RandomCrop': RandomCrop needs size. {WRITE_A_CALL}",
    "RandomCrop(padding=2)": "RandomCrop needs size. ",
    "RandomApply()": "RandomApply needs transforms. ",
    "RandomInvert(0.5, 0.5)": "RandomInvert takes p, each once. ",
    "RGB(3)": "RGB takes no arguments. ",
    "RandomCrop(28, size=28)": "RandomCrop takes size, padding, pad_if_needed, fill, padding_mode, each once. ",
    "RandomCrop(size=28, size=29)": "RandomCrop takes size, padding, pad_if_needed, fill, padding_mode, each once. ",
    "": f"transform '': {NO_CALL}",
    "RandomCrop(28" + " " * 10_000 + ")": f" ...: longer than 10,000 characters. {WRITE_A_CALL}",
    "28": NO_CALL,
    "RGB(": NO_CALL,
    "RGB(); RGB()": NO_CALL,
    "RGB()\0": NO_CALL,
    "\ud800": NO_CALL,
    "v2.RandomCrop(28)": NO_CALL,
    "RandomCrop(28)(29)": NO_CALL,
    "lambda image: image": NO_CALL,
    "__import__('os')": "transform '__import__' isn't one that views are made of.",
    "RandomCrop(__import__('os'))": "transform '__import__' isn't one that views are made of.",
    "RandomCrop(size)": f"'size' {NO_LITERAL}",
    "RandomCrop(os.path)": f"'os.path' {NO_LITERAL}",
    "RandomCrop(lambda: 28)": f"'lambda: 28' {NO_LITERAL}",
    "RandomCrop(*[28])": f"'*[28]' {NO_LITERAL}",
    "RandomCrop([s for s in (1, 2)])": f"'[s for s in (1, 2)]' {NO_LITERAL}",
    "RandomCrop(f'{28}')": NO_LITERAL,
    "RandomCrop(b'28')": NO_LITERAL,
    "RandomCrop(28j)": NO_LITERAL,
    "RandomCrop(2 * 14)": f"'2 * 14' {NO_LITERAL}",
    "RandomCrop({'size': 28})": NO_LITERAL,
    "RandomCrop({[]: 28})": NO_LITERAL,
    "RandomApply([{'name': 'RGB', 'arguments': {}}])": NO_LITERAL,
    "RandomCrop(**{'size': 28})": "** isn't read. ",
    "Pad(1e9)": f"padding = 1000000000.0 {NOT_PLAIN}",
    "Pad([1, -70_000])": f"padding = [1, -70000] {NOT_PLAIN}",
    "Pad(1e999)": f"padding = inf {NOT_PLAIN}",
    "Pad(-1e999)": f"padding = -inf {NOT_PLAIN}",
    "Pad([[[[[1]]]]])": NOT_PLAIN,
    "Pad(RGB())": NOT_PLAIN,
    "RandomCrop(" + "9" * 4000 + ")": NOT_PLAIN,
    "RandomCrop(" + "9" * 5000 + ")": NO_CALL,
    "Resize(8, interpolation='bilinearr')": "interpolation = 'bilinearr'. Did you mean bilinear?",
    "Resize(8, interpolation=2)": "interpolation = 2. Known: nearest, ",
    "Resize(8, interpolation=['bilinear'])": "interpolation = ['bilinear']. ",
    "AutoAugment('imagenett')": "policy = 'imagenett'. Did you mean imagenet?",
    "RandomErasing(value='random')": "value = 'random', but pixels are numbers from 0 to 255 here. Give such a",
    "RandomErasing(value=None)": "value = None, but pixels are numbers from 0 to 255 here.",
    "Pad(1, fill=256)": "fill = 256, but pixels are numbers from 0 to 255 here.",
    "Pad(1, fill=[0, -1, 0])": "fill = [0, -1, 0], but pixels are numbers from 0 to 255 here.",
    "RandomApply([])": "transform RandomApply: needs a list of transforms. Give it some.",
    "RandomApply(RGB())": "transform RandomApply: needs a list of transforms. Give it some.",
    "RandomApply([28])": "28 isn't a transform. Write a call, such as RandomHorizontalFlip(0.5).",
    "RandomInvert(7)": "transform RandomInvert(p=7): `p` should be",
    "GaussianBlur(4)": "transform GaussianBlur(kernel_size=4): Kernel size value should be an odd and positive number.",
    "RandomChoice([RGB()], p=[0])": "transform RandomChoice(transforms=[RGB()], p=[0]): division by zero. Change its",
    "RandomApply([" * 6 + "RGB()" + "])" * 6: "transform RandomApply: nested more than 4 deep. Write it flatter.",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSALS, ids=lambda text: repr(text[:60]))
def test_what_is_no_transform_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(REFUSALS[text])) as caught:
        parse_transform(text)
    assert str(caught.value).startswith(("transform ", "28 isn't a transform"))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "RandomCrop(" + "-" * 3000 + "1)",
        "RandomCrop(" + "a." * 3000 + "a)",
        "RandomCrop(" + "1 + " * 2000 + "1)",
        "RandomCrop(" + "[" * 150 + "]" * 150 + ")",
        "RandomApply([" * 90 + "RGB()" + "])" * 90,
        "RGB(" * 199 + ")" * 199,
        "(" * 9000,
        f"Resize({[1] * 3000})",
        f"RandomCrop('{'x' * 9000}', fill=-1)",
    ],
    ids=lambda text: text[:20],
)
def test_a_message_about_a_huge_text_is_short(text: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_transform(text)

    assert len(str(caught.value)) < 1000


def test_nothing_that_is_written_is_run(tmp_path: Path) -> None:
    for text in ["open({!r}, 'w')", "RandomCrop(open({!r}, 'w'))", "RandomCrop(28, fill=[open({!r}, 'w')])"]:
        with pytest.raises(InvalidOption):
            parse_transform(text.format(str(tmp_path / "run")))

    assert not (tmp_path / "run").exists()


@given(st.text() | st.builds("{}({})".format, st.sampled_from(ALLOWED), st.text("RGB()[]{}*=-+.,:'\"19e_ \n\\")))
def test_any_text_is_a_transform_or_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        name = parse_transform(text).name
    except InvalidOption as error:
        message = str(error)
    else:
        assert name in ALLOWED

    assert "\n" not in message


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(-3, 9) | st.sampled_from(["x", "edge", "nearest"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "arguments"]), inner),
    max_leaves=4,
)


@st.composite
def records(draw: st.DrawFn) -> TransformRecord:
    """A transform on the allow-list whose arguments are anything of JSON."""
    name = draw(st.sampled_from(ALLOWED))
    parameters = list(inspect.signature(getattr(v2, name)).parameters)
    arguments = {parameter: draw(PLAIN) for parameter in parameters if draw(st.booleans())}
    return TransformRecord(name=name, arguments=arguments)


@given(records())
def test_any_arguments_are_torchvisions_or_refused_in_one_line(record: TransformRecord) -> None:
    message = ""
    try:
        transform = build_transform(record)
    except InvalidOption as error:
        message = str(error)
    else:
        assert isinstance(transform, getattr(v2, record.name))

    assert "\n" not in message


# What a manifest may not hold.


@pytest.mark.parametrize(
    "text",
    [
        '{"name": 1, "arguments": {}}',
        '{"name": null, "arguments": {}}',
        '{"name": ["RGB"], "arguments": {}}',
        '{"name": "RGB"}',
        '{"name": "RGB", "arguments": []}',
        '{"name": "RGB", "arguments": {}, "module": "os"}',
        '{"name": "Pad", "arguments": {"padding": NaN}}',
    ],
)
def test_a_manifest_holds_a_name_and_arguments_alone(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_json(text)


HOSTILE = {
    '{"name": "os.system", "arguments": {}}': "transform 'os.system' isn't one that views are made of.",
    '{"name": "__init__", "arguments": {}}': "transform '__init__' isn't one that views are made of.",
    '{"name": "Lambda", "arguments": {"lambd": "x"}}': "transform 'Lambda' isn't one that views are made of.",
    '{"name": "Pad", "arguments": {"padding": 1, "__class__": 1}}': "transform Pad has no argument '__class__'.",
    '{"name": "RandomErasing", "arguments": {"inplace": true}}': "transform RandomErasing has no argument 'inplace'.",
    '{"name": "Pad", "arguments": {}}': "transform Pad(): Pad.__init__() missing 1 required positional argument",
    '{"name": "Pad", "arguments": {"padding": {}}}': f"padding = {{}} {NOT_PLAIN}",
    '{"name": "Pad", "arguments": {"padding": 1e300}}': f"padding = 1e+300 {NOT_PLAIN}",
    f'{{"name": "Pad", "arguments": {{"padding": {"9" * 400}}}}}': NOT_PLAIN,
    f'{{"name": "Pad", "arguments": {{"padding": {[1] * 65_537}}}}}': NOT_PLAIN,
    f'{{"name": "{"x" * 100_000}", "arguments": {{}}}}': "isn't one that views are made of.",
    f'{{"name": "RGB", "arguments": {{"{"x" * 100_000}": 1}}}}': "transform RGB has no argument 'xxx",
    '{"name": "AutoAugment", "arguments": {"policy": {"imagenet": 1}}}': "policy = {'imagenet': 1}.",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:60])
def test_a_manifests_transform_is_checked_as_a_persons_is(text: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(HOSTILE[text])) as caught:
        build_transform(from_json(text))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "inner",
    [
        "1",
        "null",
        '"RGB()"',
        '["RGB"]',
        "{}",
        '{"name": 1, "arguments": {}}',
        '{"name": "RGB"}',
        '{"name": "RGB", "arguments": []}',
        '{"name": "RGB", "arguments": {}, "module": "os"}',
    ],
)
def test_so_are_transforms_within_transforms(inner: str) -> None:
    record = from_json(f'{{"name": "RandomApply", "arguments": {{"transforms": [{inner}]}}}}')

    with pytest.raises(InvalidOption, match=r"isn't a transform\. Write a call, such as RandomHorizontalFlip"):
        build_transform(record)


def test_transforms_within_transforms_have_an_end() -> None:
    inner: dict[str, Any] = {"name": "RGB", "arguments": {}}
    for _ in range(300):
        inner = {"name": "RandomApply", "arguments": {"transforms": [inner]}}

    with pytest.raises(InvalidOption, match=r"nested more than 4 deep\. Write it flatter"):
        build_transform(TransformRecord(**inner))
    assert describe_transform(TransformRecord(**inner)).count("RandomApply") == 6
