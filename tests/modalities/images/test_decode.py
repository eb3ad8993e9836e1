import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softlab.errors import UnreadableSample
from softlab.modalities.images.decode import decode_image, image_to_tensor
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.modality import decode_sample
from softlab.sources.source import Sample, reason_of
from tests.sources.pictures import encoded, picture, truncated_png


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("L", 1), ("1", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("LA", 3), ("CMYK", 3)],
)
def test_grey_becomes_one_channel_and_everything_else_three(mode: str, channels: int) -> None:
    image = Image.new("I;16", (6, 4), 4_096) if mode == "I;16" else picture(mode=mode)

    tensor_CHW = image_to_tensor(image)

    assert tensor_CHW.shape == (channels, 4, 6)
    assert tensor_CHW.dtype == torch.uint8


def test_pixels_come_back_as_they_were_encoded() -> None:
    image = picture()

    tensor_CHW = decode_image(encoded(image))

    assert np.array_equal(tensor_CHW.permute(1, 2, 0).numpy(), np.asarray(image))


def test_of_16_bits_the_upper_8_are_kept() -> None:
    pixels = np.array([[0, 255, 256, 65_535]], dtype=np.uint16)

    tensor_CHW = decode_image(encoded(Image.fromarray(pixels)))

    assert tensor_CHW.tolist() == [[[0, 0, 1, 255]]]


def test_a_palette_with_transparency_gives_the_colours_of_the_palette() -> None:
    image = picture(mode="P")
    image.info["transparency"] = bytes(range(256))

    assert torch.equal(image_to_tensor(image), image_to_tensor(picture(mode="P")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image that Pillow can identify"),
        (b"no image", "not an image that Pillow can identify"),
        (truncated_png(), "image file is truncated"),
        (encoded(picture(mode="F"), form="TIFF"), "pixels of mode F have no fixed range"),
    ],
)
def test_what_cant_be_decoded_is_named_with_its_reason_and_the_way_out(data: bytes, reason: str) -> None:
    sample = Sample(index=0, key="cat/1.png", fields={"image": data}, content_hash=b"", place="pets/cat/1.png")

    with pytest.raises(UnreadableSample, match=re.escape("pets/cat/1.png: sample 'cat/1.png'")) as caught:
        decode_sample(sample, MODALITY)

    assert reason in str(caught.value)
    assert str(caught.value).endswith("leave such samples out with `source.skip_unreadable = true`.")
    assert reason in reason_of(caught.value)
    assert "pets" not in reason_of(caught.value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("a cat", "a text isn't an image"),
        (np.zeros((3, 4, 6)), r"an array of float64 \[3, 4, 6\] isn't an image; expected uint8 \[1 or 3, H, W\]"),
        (np.zeros((4, 6, 3), dtype=np.uint8), r"an array of uint8 \[4, 6, 3\] isn't an image"),
    ],
)
def test_a_field_that_holds_something_else_is_no_image(raw: str | np.ndarray[Any, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_image(raw)


def test_pixels_in_an_array_are_taken_as_they_are() -> None:
    pixels_CHW = np.arange(24, dtype=np.uint8).reshape(1, 4, 6)

    assert decode_image(pixels_CHW).tolist() == pixels_CHW.tolist()
