"""Which images are the same input for a teacher whose input is stated anew."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from softlab.manifest import InputRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.modality import Images
from softlab.modalities.modality import find_same_input, options_by_name, restate_input
from softlab.sources.source import Raw
from tests.sources.pictures import encoded, picture

GREY, COLOUR = encoded(picture().convert("L")), encoded(picture())
CLEAR = encoded(picture().convert("RGBA"))
WIDE = encoded(Image.fromarray(np.full((4, 5), 500, dtype=np.int32)), form="TIFF")


def turned() -> bytes:
    """By a quarter, as its EXIF says."""
    image, exif, data = picture(), Image.Exif(), BytesIO()
    exif[0x0112] = 6
    image.save(data, format="PNG", exif=exif)
    return data.getvalue()


def record(**given: Any) -> InputRecord:
    options = ImageInput(**given)
    decode = Images().for_inputs([options], None).decode_record
    return InputRecord(field="image", modality="images", options=options_by_name(options), decode=decode)


def finder(before: dict[str, Any], now: dict[str, Any], *, is_random: bool = False) -> Callable[[Raw], bool] | None:
    return find_same_input(record(**before), record(**now), is_random=is_random)


@pytest.mark.parametrize(
    ("now", "same", "other"),
    [
        ({"channels": 3}, [COLOUR, CLEAR, np.zeros((3, 2, 2), np.uint8)], [GREY, WIDE, np.zeros((1, 2, 2), np.uint8)]),
        ({"channels": 1}, [GREY, WIDE], [COLOUR, CLEAR]),
        ({"background": "black"}, [GREY, COLOUR, WIDE], [CLEAR]),
        ({"value_range": (0, 1000)}, [GREY, COLOUR, CLEAR], [WIDE]),
        ({"channels": 3, "background": "black"}, [COLOUR], [GREY, CLEAR]),
        ({"size": (4, 6)}, [GREY, COLOUR], [turned(), np.zeros((1, 5, 4), np.uint8)]),
        ({"size": (6, 4)}, [turned(), np.zeros((3, 6, 4), np.uint8)], [COLOUR]),
    ],
)
def test_images_that_the_new_options_leave_as_they_were_are_the_same(
    now: dict[str, Any], same: list[Raw], other: list[Raw]
) -> None:
    looks_same = finder({}, now)

    assert looks_same is not None
    assert [looks_same(raw) for raw in same] == [True] * len(same)
    assert [looks_same(raw) for raw in other] == [False] * len(other)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"channels": 3}, {"channels": 1}),
        ({"size": (8, 8)}, {"size": (4, 4)}),
        ({}, {"mean": (0.4,)}),
        ({"resize": 8}, {"resize": 8, "size": (8, 8)}),
        ({}, {"jpeg": "scaled"}),
        ({"jpeg": "scaled"}, {"jpeg": "whole"}),
        ({}, {"shrink": 4}),
    ],
)
def test_what_changes_every_image_is_another_input(before: dict[str, Any], now: dict[str, Any]) -> None:
    assert finder(before, now) is None


def test_of_random_views_the_size_of_the_image_tells_nothing() -> None:
    assert finder({}, {"size": (4, 5)}, is_random=True) is None


def test_what_is_said_of_decoding_is_added_and_the_rest_is_as_it_was() -> None:
    begun = record(background="black")

    assert restate_input(begun, ImageInput(value_range=(0, 9))).decode == {
        "rules": 2,
        "background": "black",
        "value_range": [0, 9],
    }
    assert restate_input(begun, ImageInput()) == begun
    assert restate_input(record(jpeg="scaled"), ImageInput()) == record(jpeg="scaled")
    assert restate_input(record(jpeg="scaled"), ImageInput(jpeg="whole", shrink=9)) == record(shrink=9)
    assert restate_input(record(shrink=9), ImageInput(jpeg="scaled")) == record(shrink=9, jpeg="scaled")
