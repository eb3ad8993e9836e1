"""Which JPEGs are scaled while they are decoded, and that what comes out is what the whole image has there."""

# Shape letters: C channels, H height, W width.

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional

from softlab.errors import InvalidOption, UnreadableSample
from softlab.loading.decoded import DecodedSample
from softlab.modalities.images.decode import decode_image
from softlab.modalities.images.decoding import ImageDecoding
from softlab.modalities.images.example import ImageExample, decode_example
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.jpeg import ScaledJpeg, find_jpeg
from softlab.modalities.images.modality import MODALITY, Images
from softlab.modalities.images.views.first_transform import apply_transform
from softlab.modalities.images.views.transforms import build_transform, parse_transform
from softlab.modalities.modality import decode_sample
from softlab.sources.source import Sample, reason_of
from tests.modalities.images.photos import jpeg, turned_jpeg
from tests.sources.pictures import encoded, picture

SCALED = ImageDecoding(jpeg="scaled")
SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def found(data: bytes) -> ScaledJpeg:
    image = find_jpeg(data)
    assert image is not None
    return image


def mean_difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().mean())


# Which are scaled.


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS.values(), ids=SUBSAMPLINGS)
def test_a_whole_scaled_jpeg_has_pillows_pixels(subsampling: int) -> None:
    data = jpeg(101, 67, subsampling=subsampling)

    assert found(data).shape == (3, 67, 101)
    assert torch.equal(found(data).whole(), decode_image(data))


def cut_off() -> bytes:
    data = jpeg(64, 64)
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "data",
    [
        jpeg(64, 64, mode="L"),
        jpeg(64, 64, mode="CMYK"),
        jpeg(64, 64, progressive=True),
        turned_jpeg(64, 32),
        jpeg(64, 64) + b"\0",
        encoded(picture()),
        encoded(picture(), form="WEBP"),
    ],
    ids=["grey", "CMYK", "progressive", "turned", "bytes behind the end", "PNG", "WebP"],
)
def test_all_else_is_decoded_whole_by_pillow(data: bytes) -> None:
    example = decode_example(data, SCALED)

    assert isinstance(example, Tensor)
    assert torch.equal(example, decode_image(data))


def test_a_jpeg_with_metadata_that_is_not_turned_is_scaled() -> None:
    assert isinstance(decode_example(turned_jpeg(64, 32, orientation=1), SCALED), ScaledJpeg)


@pytest.mark.parametrize("data", [cut_off(), jpeg(64, 64)[:2] + b"\xff\xd9", b"\xff\xd8\xff\xd9"])
def test_a_damaged_jpeg_is_unreadable_as_without_scaling(data: bytes) -> None:
    sample = Sample(index=0, key="a.jpg", fields={"image": data}, content_hash=b"", place="pets")

    for modality in (MODALITY, Images(SCALED)):
        with pytest.raises(UnreadableSample, match=r"pets: sample 'a\.jpg' can't be read: "):
            decode_sample(sample, modality)


def test_a_jpeg_without_the_tables_it_names_is_told_by_its_size_and_hash() -> None:
    with pytest.raises(
        UnreadableSample, match=r"a JPEG of 64 x 48 pixels \(BLAKE3 of its bytes .{16}\) can't be decoded: .*Repair"
    ):
        found(without_tables(64, 48)).whole()


def without_tables(width: int, height: int) -> bytes:
    """Its header is right, and no pixel can be decoded."""
    return jpeg(width, height).replace(b"\xff\xdb", b"\xff\xfe")  # tables of quantisation become comments


@pytest.mark.parametrize(
    "use",
    [
        MODALITY.check,
        lambda example: MODALITY.collate([example], ImageInput(size=(8, 8))),
        lambda example: apply_transform(build_transform(parse_transform("RandomResizedCrop(8)")), example),
        lambda example: apply_transform(build_transform(parse_transform("RandomHorizontalFlip(1.0)")), example),
    ],
    ids=["check", "input", "crop", "flip"],
)
def test_one_that_fails_when_it_is_used_is_told_by_its_key_and_place(use: Callable[[ImageExample], object]) -> None:
    data = without_tables(64, 48)
    sample = Sample(index=0, key="b.jpg", fields={"image": data}, content_hash=b"", place="pets")
    example = decode_sample(sample, Images(SCALED))

    with pytest.raises(
        UnreadableSample, match=r"^pets: sample 'b\.jpg' can't be read: .*`source.skip_unreadable"
    ) as told:
        use(example)
    assert "pets" not in reason_of(told.value)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_bytes_behind_a_start_marker_break_the_reading_of_headers(data: bytes) -> None:
    header = jpeg(16, 16)[:180]

    for raw in (b"\xff\xd8" + data + b"\xff\xd9", header + data + b"\xff\xd9"):
        image = find_jpeg(raw)
        assert image is None or min(image.shape) > 0


def test_a_jpeg_of_too_many_pixels_is_refused_with_its_option() -> None:
    with pytest.raises(ValueError, match=r"64 x 64 pixels are more than 1,000, .* raise `input.max_pixels`"):
        decode_example(jpeg(64, 64), ImageDecoding(jpeg="scaled", max_pixels=1_000))


# What comes out.


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS.values(), ids=SUBSAMPLINGS)
@pytest.mark.parametrize("top", [0, 5, 31, 60])
def test_a_box_that_is_not_shrunk_has_the_pixels_of_the_whole_image(subsampling: int, top: int) -> None:
    image = found(jpeg(120, 90, subsampling=subsampling))

    box_CHW = image.box(top=top, left=17, height=29, width=40, target=(29, 40))

    assert torch.equal(box_CHW, image.whole()[:, top : top + 29, 17:57])


@given(height=st.integers(1, 150), width=st.integers(1, 150), least=st.tuples(st.integers(8, 40), st.integers(8, 40)))
@settings(max_examples=80, deadline=None)
def test_a_box_is_no_smaller_than_its_target_and_looks_like_the_same_part(
    height: int, width: int, least: tuple[int, int]
) -> None:
    image, top, left = found(BIG), (BIG_HEIGHT - height) // 2, (BIG_WIDTH - width) // 3

    box_CHW = image.box(top=top, left=left, height=height, width=width, target=least)

    of_whole_CHW = image.whole()[:, top : top + height, left : left + width]
    assert box_CHW.shape[1] >= min(height, least[0])
    assert box_CHW.shape[2] >= min(width, least[1])
    assert box_CHW.shape[1] <= height
    resized = functional.resize(of_whole_CHW, list(box_CHW.shape[1:]), antialias=True)
    assert mean_difference(resized, box_CHW) < 8


BIG_WIDTH, BIG_HEIGHT = 208, 160
BIG = jpeg(BIG_WIDTH, BIG_HEIGHT)


@pytest.mark.parametrize("size", [(20, 26), (21, 26), (40, 50), (81, 100), (160, 208), (400, 400)])
def test_a_shrunk_image_is_no_smaller_than_asked_for(size: tuple[int, int]) -> None:
    shrunk_CHW = found(BIG).shrunk(*size)

    assert shrunk_CHW.shape[1] >= min(size[0], BIG_HEIGHT)
    assert shrunk_CHW.shape[2] >= min(size[1], BIG_WIDTH)
    assert mean_difference(functional.resize(found(BIG).whole(), list(shrunk_CHW.shape[1:])), shrunk_CHW) < 4


# Inputs and options.


@pytest.mark.parametrize(
    "options",
    [ImageInput(), ImageInput(size=(24, 32)), ImageInput(resize=20), ImageInput(size=(24, 24), resize=30)],
    ids=["as it is", "size", "resize", "resize and crop"],
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_an_input_of_a_scaled_jpeg_has_the_size_and_nearly_the_pixels_of_the_whole(
    options: ImageInput, interpolation: Any
) -> None:
    options = ImageInput(size=options.size, resize=options.resize, interpolation=interpolation)
    inputs = [Images(decoding).collate([decode_example(BIG, decoding)], options).inputs for decoding in (WHOLE, SCALED)]
    whole_BCHW, scaled_BCHW = (each.positional[0] for each in inputs)

    assert scaled_BCHW.shape == whole_BCHW.shape
    assert mean_difference(scaled_BCHW * 127.5, whole_BCHW * 127.5) < 4


WHOLE = ImageDecoding()


@pytest.mark.parametrize(("width", "height"), [(208, 160), (163, 211), (200, 150), (160, 501)])
def test_an_image_is_shrunk_to_the_same_size_whichever_way_it_is_decoded(width: int, height: int) -> None:
    data = jpeg(width, height)

    whole = decode_example(data, ImageDecoding(shrink=40))
    scaled = decode_example(data, ImageDecoding(jpeg="scaled", shrink=40))

    assert isinstance(whole, Tensor)
    assert isinstance(scaled, Tensor)
    assert scaled.shape == whole.shape
    assert min(whole.shape[1:]) == 40
    assert mean_difference(whole, scaled) < 4


def test_what_is_small_or_no_jpeg_is_not_enlarged() -> None:
    assert decode_example(jpeg(30, 20), ImageDecoding(jpeg="scaled", shrink=40)).shape == (3, 20, 30)
    assert decode_example(encoded(picture(size=(60, 50))), ImageDecoding(shrink=40)).shape == (3, 40, 48)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)

    with pytest.raises(
        InvalidOption, match=r"`input.jpeg = scaled` need simplejpeg\. .* pip install 'softlab\[jpeg\]'$"
    ):
        MODALITY.for_inputs([ImageInput(jpeg="scaled")], None)
    MODALITY.for_inputs([ImageInput()], None)


def test_the_version_of_the_decoder_is_among_those_that_views_depend_on() -> None:
    assert "simplejpeg" in MODALITY.for_inputs([ImageInput(jpeg="scaled")], None).libraries
    assert "simplejpeg" not in MODALITY.libraries


def test_a_scaled_jpeg_that_is_kept_counts_with_its_bytes() -> None:
    kept = DecodedSample(content_hash=b"", examples={"images": found(BIG)})

    assert len(BIG) < kept.nbytes < len(BIG) + 1000
