"""An unfinished dump whose input is stated anew: what its options now decide, and which images look the same."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
from msgspec import UnsetType
from PIL import Image

from softlab.manifest import InputRecord
from softlab.modalities.images.decode import (
    is_grey,
    is_transparent,
    is_wide,
    is_wide_colour,
    open_image,
    orientation_of,
)
from softlab.modalities.images.decoding import SCALED
from softlab.modalities.images.inputs import ImageInput
from softlab.sources.source import Raw

ANY_SIZE = 1 << 62
"""Pixels: headers alone are read, of images that were decoded before."""

LooksSame = Callable[[Raw], bool]


def as_settled(options: ImageInput, record: InputRecord) -> ImageInput:
    """The options with the channels that the record says, where they say none: the data set has decided."""
    channels = record.options.get("channels")
    return replace(options, channels=channels) if options.channels is None and channels in (1, 3) else options


def restated(record: InputRecord, options: ImageInput) -> InputRecord:
    """The record with what the options say of decoding. One from before that was recorded stays as it is."""
    if isinstance(record.decode, UnsetType):
        return record
    given: dict[str, Any] = {"background": options.background, "value_range": list(options.value_range)}
    given |= {"shrink": options.shrink} | (SCALED if options.jpeg == "scaled" else {})
    decode = record.decode | {name: value for name, value in given.items() if value}
    if options.jpeg == "whole":
        decode = {name: value for name, value in decode.items() if name not in SCALED}
    return msgspec.structs.replace(record, decode=decode)


def find_same(begun: InputRecord, now: InputRecord, *, is_random: bool) -> LooksSame | None:
    """Which images are the same input by both records; None where the records differ in more than such images can tell.
    `is_random` is whether views are random, and may have another size than their image."""
    if begun == now:
        return lambda _: True
    decode, other_decode = begun.decode, now.decode
    if isinstance(decode, UnsetType) or isinstance(other_decode, UnsetType):
        return None
    changed = _changed(begun.options, now.options) | {f"decode.{name}" for name in _changed(decode, other_decode)}
    is_known = changed <= {"channels", "size", "decode.background", "decode.value_range"}
    if not is_known or any(begun.options.get(name) for name in changed & {"channels", "size"}):
        return None
    if "size" in changed and (is_random or begun.options.get("resize") is not None):
        return None
    return partial(_looks_same, changed=changed, options=now.options)


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def _looks_same(raw: Raw, *, changed: set[str], options: Mapping[str, Any]) -> bool:
    if isinstance(raw, str | tuple):
        return False
    if isinstance(raw, np.ndarray):
        channels, height, width = raw.shape
        return _is_as_stated(channels, [height, width], changed=changed, options=options)
    with open_image(raw, max_pixels=ANY_SIZE) as image:
        is_decoded_same = not (
            ("decode.background" in changed and is_transparent(image))
            or ("decode.value_range" in changed and (is_wide(image) or is_wide_colour(image)))
        )
        channels = 1 if is_grey(image) else 3
        return is_decoded_same and _is_as_stated(channels, _size_of(image), changed=changed, options=options)


def _is_as_stated(channels: int, size: list[int], *, changed: set[str], options: Mapping[str, Any]) -> bool:
    """Then to fit the image to the stated channels and size changes nothing."""
    return ("channels" not in changed or channels == options["channels"]) and (
        "size" not in changed or size == list(options["size"])
    )


def _size_of(image: Image.Image) -> list[int]:
    """Height and width, once it is turned as its EXIF says."""
    is_turned = orientation_of(image) >= 5
    return [image.width, image.height] if is_turned else [image.height, image.width]
