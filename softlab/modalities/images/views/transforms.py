"""The torchvision v2 transforms that a view may be made of, written as calls: `RandomCrop(28, padding=2)`.

A transform is data, never code: its name is on an allow-list, its arguments are numbers, strings, lists or further
transforms. `parse_transform` reads what a person writes, `build_transform` what a manifest holds.
"""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from softlab.errors import InvalidOption, suggest
from softlab.manifest import TransformRecord
from softlab.modalities.images.views.auto_augment import AugMix, AutoAugment, RandAugment, TrivialAugmentWide
from softlab.modalities.images.views.described import (
    ALLOWED,
    MAX_DEPTH,
    MAX_SHOWN,
    NESTED,
    as_record,
    describe_transform,
    shorten,
    show,
)

Transform = Callable[[Tensor], Tensor]
"""From uint8 [C, H, W] to uint8 [C, H', W']; draws from torch's global random state."""

MAX_NUMBER = 1 << 16
"""No image is wider, no list longer: a manifest can't ask for a canvas that fills the memory."""

MAX_TEXT = 10_000
"""Characters of one transform as a person writes it."""

CHOICES: dict[str, type[Enum]] = {"interpolation": InterpolationMode, "policy": AutoAugmentPolicy}
"""Arguments that torchvision takes as members of an enumeration; here they are the members' values."""

PIXELS = ("fill", "value")
"""Arguments that become pixels: what is no uint8 would be cast to one in each machine's own way."""

FASTER: dict[str, type[v2.Transform]] = {
    each.__name__: each for each in (AugMix, AutoAugment, RandAugment, TrivialAugmentWide)
}
"""Transforms that give torchvision's pixels in less time."""

FIXED = {"RandomErasing": {"inplace": False}}
"""Arguments that aren't for a recipe to choose: an image that was read once serves several views."""


def parse_transform(text: str) -> TransformRecord:
    """A transform written as a call, with every argument filled in. Raises InvalidOption for what is not on the
    allow-list, an unknown or missing argument, and values that torchvision refuses."""
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise _wrong(text, f"longer than {MAX_TEXT:,} characters")
    try:
        record = _read_call(ast.parse(text, mode="eval").body, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _wrong(text, "not a name with its arguments") from error
    build_transform(record)
    return record


def build_transform(record: TransformRecord, *, depth: int = 0) -> Transform:
    """The transform itself. Raises InvalidOption as `parse_transform`, whatever a manifest holds."""
    _check_name(record.name)
    if depth > MAX_DEPTH:
        raise InvalidOption(f"transform {record.name}: nested more than {MAX_DEPTH} deep. Write it flatter.")
    _check_names_of_arguments(record.name, record.arguments)
    values = {name: _as_argument(name, value, record, depth=depth) for name, value in record.arguments.items()}
    try:
        made_by = FASTER.get(record.name, getattr(v2, record.name))
        built: Transform = made_by(**values, **FIXED.get(record.name, {}))
    except Exception as error:  # whatever torchvision runs into with arguments that it doesn't check
        what = shorten(describe_transform(record))
        raise InvalidOption(f"transform {what}: {reason_of(error)}. Change its arguments.") from error
    return built


def reason_of(error: Exception) -> str:
    """Somebody else's error as the middle of a sentence."""
    lines = str(error).splitlines() or [type(error).__name__]
    return shorten(lines[0].rstrip("."))


def _read_call(node: ast.expr, text: str) -> TransformRecord:
    if isinstance(node, ast.Name):
        node = ast.Call(func=node, args=[], keywords=[])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise _wrong(text, "not a name with its arguments")
    name = node.func.id
    _check_name(name)
    positional = [_read_value(argument, text) for argument in node.args]
    named = {keyword.arg: _read_value(keyword.value, text) for keyword in node.keywords if keyword.arg is not None}
    if any(keyword.arg is None for keyword in node.keywords):
        raise _wrong(text, "** isn't read")
    parameters = _parameters(name)
    given = dict(zip(parameters, positional, strict=False))
    _check_names_of_arguments(name, named)
    if len(given | named) < len(node.args) + len(node.keywords):
        raise _wrong(text, f"{name} takes {', '.join(parameters) + ', each once' if parameters else 'no arguments'}")
    arguments = _defaults(name) | given | named
    missing = [parameter for parameter in parameters if parameter not in arguments]
    if missing:
        raise _wrong(text, f"{name} needs {', '.join(missing)}")
    return TransformRecord(name=name, arguments={parameter: arguments[parameter] for parameter in parameters})


def _read_value(node: ast.expr, text: str) -> Any:
    """A literal, or a list of calls; tuples become lists, as JSON has it."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_read_value(item, text) for item in node.elts]
    if isinstance(node, ast.Call):
        record = _read_call(node, text)
        return {"name": record.name, "arguments": record.arguments}
    with suppress(ValueError, TypeError):  # the latter for a dict with a key that can't be one
        value = ast.literal_eval(node)
        if value is None or isinstance(value, int | float | str):
            return value
    found = show(ast.get_source_segment(text, node))
    raise _wrong(text, f"{found} is neither a number, a string, a transform, nor a list of such")


def _as_argument(name: str, value: Any, record: TransformRecord, *, depth: int) -> Any:
    """A plain value as torchvision wants it."""
    if name == NESTED:
        items = value if isinstance(value, list) and len(value) <= MAX_NUMBER else []
        if not items:
            raise InvalidOption(f"transform {record.name}: needs a list of transforms. Give it some.")
        return [build_transform(as_record(item), depth=depth + 1) for item in items]
    if name in CHOICES:
        choices = [member.value for member in CHOICES[name]]
        if value not in choices:
            near = suggest(str(value)[:MAX_SHOWN], choices)
            raise InvalidOption(f"transform {record.name}: {name} = {show(value)}. {near}")
        return CHOICES[name](value)
    if not _is_plain(value):
        raise InvalidOption(
            f"transform {record.name}: {name} = {show(value)} isn't a finite number up to {MAX_NUMBER:,}, a string, "
            f"or a list of such. Change it."
        )
    if name in PIXELS and not _are_pixels(value) and not (name == "fill" and value is None):
        raise InvalidOption(
            f"transform {record.name}: {name} = {show(value)}, but pixels are numbers from 0 to 255 here. Give such a "
            f"number, or one a channel."
        )
    return value


def _is_plain(value: Any, *, depth: int = 0) -> bool:
    if isinstance(value, list):
        return (
            depth < MAX_DEPTH and len(value) <= MAX_NUMBER and all(_is_plain(item, depth=depth + 1) for item in value)
        )
    if isinstance(value, int | float):
        return abs(value) <= MAX_NUMBER  # which NaN is not
    return value is None or isinstance(value, str)


def _are_pixels(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, int | float) and 0 <= each <= 255 for each in values)


def _check_name(name: str) -> None:
    if name not in ALLOWED:
        raise InvalidOption(
            f"transform {show(name)} isn't one that views are made of. {suggest(name[:MAX_SHOWN], ALLOWED)} "
            f"Normalisation and a model's input size are not augmentations: they are the options of [input]."
        )


def _check_names_of_arguments(name: str, arguments: Mapping[str, object]) -> None:
    parameters = _parameters(name)
    for argument in arguments:
        if argument not in parameters:
            near = suggest(argument[:MAX_SHOWN], parameters)
            raise InvalidOption(f"transform {name} has no argument {show(argument)}. {near}")


def _parameters(name: str) -> list[str]:
    return [
        parameter for parameter in inspect.signature(getattr(v2, name)).parameters if not _is_fixed(name, parameter)
    ]


def _defaults(name: str) -> dict[str, Any]:
    """Stored with the others, so that a later torchvision with other defaults draws the same."""
    return {
        parameter.name: _plain_default(parameter.default)
        for parameter in inspect.signature(getattr(v2, name)).parameters.values()
        if parameter.default is not inspect.Parameter.empty and not _is_fixed(name, parameter.name)
    }


def _is_fixed(name: str, parameter: str) -> bool:
    return parameter in FIXED.get(name, {})


def _plain_default(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _wrong(text: str, what: str) -> InvalidOption:
    return InvalidOption(
        f"transform {show(text)}: {what}. Write a call of a torchvision v2 transform, such as "
        f"RandomCrop(28, padding=2)."
    )
