import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from msgspec import UNSET
from PIL import Image
from torch import nn

from softlab.errors import InvalidOption, OddSource, StoreMismatch, UnreadableSample, UnsupportedStore
from softlab.evaluation.one_model import evaluate_model
from softlab.identity import fields_hash
from softlab.loading.options import CheckOptions
from softlab.manifest import MANIFEST_NAME, InputRecord
from softlab.manifest.document import encode
from softlab.modalities.images import modality
from softlab.modalities.images.decode import decode_image, image_to_tensor
from softlab.modalities.images.decoding import ImageDecoding
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.kinds import settle_input
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.modality import decode_sample
from softlab.modalities.opening import open_source
from softlab.sources.source import Sample, Source
from softlab.store.manifest_file import read_manifest
from softlab.store.reader import open_store
from softlab.student.options import RunOptions, TrainOptions
from softlab.student.train import train_students
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.sources.pictures import encoded

RED_BELOW_NOTHING = (255, 0, 0, 0)


def transparent(mode: str) -> Image.Image:
    """What can be seen is white on any background but white; what lies below is red, or dark."""
    image = Image.new("RGBA", (2, 2), RED_BELOW_NOTHING)
    image.putpixel((0, 0), (10, 20, 30, 255))
    return image.convert(mode) if mode != "P" else image.quantize(4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(("background", "level"), [("white", 255), ("grey", 128), ("black", 0)])
def test_transparent_pixels_show_the_background_and_not_what_lies_below(mode: str, background: Any, level: int) -> None:
    tensor_CHW = decode_image(encoded(transparent(mode)), ImageDecoding(background=background))

    assert tensor_CHW.shape[0] == (1 if mode == "LA" else 3)
    assert (tensor_CHW[:, 1, 1] == level).all()
    assert (tensor_CHW[:, 0, 0] < 40).all()


def test_half_transparent_pixels_are_mixed() -> None:
    image = Image.new("RGBA", (1, 1), (100, 0, 255, 51))

    assert decode_image(encoded(image)).flatten().tolist() == [224, 204, 255]


def test_a_transparent_colour_of_a_grey_image_shows_the_background() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[7, 9]], dtype=np.uint8)).save(file, "PNG", transparency=7)

    assert decode_image(file.getvalue()).tolist() == [[[255, 9]]]


@pytest.mark.parametrize(("orientation", "expected"), [(1, [[0, 1]]), (3, [[1, 0]]), (6, [[0], [1]]), (8, [[1], [0]])])
def test_images_are_turned_as_their_exif_says(orientation: int, expected: list[list[int]]) -> None:
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)

    assert (decode_image(file.getvalue())[0] // 255).tolist() == expected


def wide(values: list[float], dtype: str) -> bytes:
    return encoded(Image.fromarray(np.array([values], dtype=dtype)), form="TIFF")


@pytest.mark.parametrize(
    ("dtype", "values", "value_range", "expected"),
    [
        ("uint16", [0, 256, 4_095, 65_535], (), [0, 1, 15, 255]),
        ("uint16", [0, 2_048, 4_095, 65_535], (0, 4_095), [0, 128, 255, 255]),
        ("float32", [0, 0.5, 1, 2], (0, 1), [0, 128, 255, 255]),
        ("int32", [-100, 0, 100], (-100, 100), [0, 128, 255]),
    ],
)
def test_the_scale_of_more_than_8_bits_is_one_for_all_images(
    dtype: str, values: list[float], value_range: tuple[float, ...], expected: list[int]
) -> None:
    assert decode_image(wide(values, dtype), ImageDecoding(value_range=value_range)).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("data", "decoding", "reason"),
    [
        (wide([0.5], "float32"), ImageDecoding(), r"say which are black and white, such as `input.value_range"),
        (wide([float("nan")], "float32"), ImageDecoding(value_range=(0, 1)), "some pixels are NaN"),
        (
            encoded(Image.new("L", (11, 10))),
            ImageDecoding(max_pixels=100),
            "11 x 10 pixels .* raise `input.max_pixels`",
        ),
    ],
)
def test_what_nobody_has_decided_is_refused_with_its_option(data: bytes, decoding: ImageDecoding, reason: str) -> None:
    sample = Sample(index=0, key="a.tif", fields={"image": data}, content_hash=b"", place="a.tif")

    with pytest.raises(UnreadableSample, match=reason):
        decode_sample(sample, MODALITY.__class__(decoding))


def test_a_limit_over_pillows_own_is_kept_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    assert decode_image(encoded(Image.new("L", (11, 10)))).shape == (1, 10, 11)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_store_that_says_nothing_of_decoding_has_the_pixels_of_its_time(mode: str) -> None:
    data = encoded(transparent(mode))
    record = InputRecord(field="image", modality="images", options={})

    seen = MODALITY.for_inputs([ImageInput()], record).decode(data)

    assert isinstance(seen, torch.Tensor)
    with Image.open(io.BytesIO(data)) as image:
        assert torch.equal(seen, image_to_tensor(image))


def test_an_input_that_contradicts_the_store_or_another_is_refused() -> None:
    record = InputRecord(field="image", modality="images", options={}, decode={"rules": 2, "background": "black"})
    later = InputRecord(field="image", modality="images", options={}, decode={"rules": 3})

    assert MODALITY.for_inputs([ImageInput(), ImageInput(background="black")], record).decoding.background == "black"
    with pytest.raises(
        StoreMismatch, match=r"`input.background = white`, but .*\(black\). Leave `input.background` out"
    ):
        MODALITY.for_inputs([ImageInput(background="white")], record)
    with pytest.raises(InvalidOption, match=r"`input.background` is white for one model and black for another"):
        MODALITY.for_inputs([ImageInput(background="white"), ImageInput(background="black")], None)
    with pytest.raises(UnsupportedStore, match=r"doesn't know .* Upgrade softlab"):
        MODALITY.for_inputs([ImageInput()], later)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"value_range": (1.0, 0.0)}, "value_range: .* a darkest and a brightest value"),
        ({"max_pixels": 0}, "max_pixels"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidOption, match=problem):
        ImageInput(**options)


def test_what_is_met_is_told_in_one_line() -> None:
    frames = [Image.new("L", (2, 2), level) for level in (0, 9)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    raws = [
        encoded(transparent("RGBA")),
        encoded(Image.new("L", (2, 2))),
        wide([4_000, 300], "uint16"),
        file.getvalue(),
    ]
    raws += [encoded(Image.new("CMYK", (2, 2)), form="TIFF"), b"damaged"]

    settled, note = settle_input(ImageInput(), raws)

    assert settled == ImageInput(channels=3)
    assert note.startswith("of 6 images looked at 2 grey (made RGB, as others are), 1 transparent (laid on white; ")
    assert "1 of 16 bits (cut to 8 bits, but no pixel is above 4,000, so that they are dark: say " in note
    assert "`input.value_range = [0, 4095]`), 1 CMYK (made RGB without a colour profile), 1 of several frames" in note


def test_ordinary_images_need_no_line() -> None:
    assert settle_input(ImageInput(), [encoded(Image.new("L", (2, 2)))] * 2) == (ImageInput(), "")


def cut_outs(folder: Path, *, grey: int | None = None, mode: str = "RGBA") -> Source:
    """32 images of 8 x 8 in two classes; the one of that number is grey."""
    random = np.random.default_rng(0)
    for number in range(32):
        image = Image.fromarray(random.integers(0, 256, (8, 8, 4), dtype=np.uint8)).convert(mode)
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (image.convert("L") if number == grey else image).save(path)
    return open_source(folder)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))


def a_teacher(**options: Any) -> Teacher:
    return Teacher(module=linear(), name="linear", arguments={}, input=ImageInput(**options))


SMALL = DumpOptions(k=2, batch_size=8)


@pytest.mark.filterwarnings("ignore::softlab.errors.SoftlabWarning")
def test_students_see_the_background_that_the_teacher_saw(tmp_path: Path) -> None:
    source = cut_outs(tmp_path / "pets")
    dump_teacher(a_teacher(background="black"), source, tmp_path / "s.zarr", SMALL)
    store = open_store(tmp_path / "s.zarr")

    (result,) = train_students(
        {"small": linear()}, source, [store], TrainOptions(run=RunOptions(epochs=1, batch_size=8)), out=tmp_path / "run"
    )

    assert store.manifest.inputs[0].decode == {"rules": 2, "background": "black"}
    assert result.error is None
    with pytest.raises(StoreMismatch, match=r"Leave `input\.background` out"):
        train_students({"small": linear()}, source, [store], input=ImageInput(background="white"))
    evaluation = evaluate_model(linear(), source, store=store)
    assert evaluation.values["teacher_kl"] < 1e-3  # the teacher itself, which on white answers otherwise


@pytest.mark.filterwarnings("ignore::softlab.errors.SoftlabWarning")
def test_a_store_from_before_is_extended_and_learnt_from_as_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, turns = cut_outs(tmp_path / "pets"), tmp_path / "s.zarr", ViewRecipe(transforms=("RandomRotation(9)",))
    options = replace(SMALL, pixel_digests="all")
    teacher = a_teacher(channels=3)
    with monkeypatch.context() as patched:
        patched.setattr(modality, "decide", lambda wanted, **_: ImageDecoding(rules=1))
        dump_teacher(teacher, source, out, options, augment=turns)
    without_record = tuple(msgspec.structs.replace(each, decode=UNSET) for each in read_manifest(out)[0].inputs)
    as_before = msgspec.structs.replace(read_manifest(out)[0], inputs=without_record)
    (out / MANIFEST_NAME).write_bytes(encode(as_before))

    dump_teacher(teacher, source, out, replace(options, views="+1"), augment=turns)

    store = open_store(out)
    assert (store.num_views, store.manifest.inputs) == (2, without_record)
    how = TrainOptions(run=RunOptions(epochs=2, batch_size=8), check=CheckOptions(verify_inputs="all"))
    train_students({"small": linear()}, source, [store], how)  # compares the pixels with those of the dump


@pytest.mark.filterwarnings("ignore::softlab.errors.SoftlabWarning")
def test_a_grey_image_among_rgb_ones_is_made_rgb_by_dump_train_and_evaluate(tmp_path: Path) -> None:
    source = cut_outs(tmp_path / "pets", grey=29, mode="RGB")
    dump_teacher(a_teacher(), source, tmp_path / "s.zarr", SMALL)
    store = open_store(tmp_path / "s.zarr")

    dump_teacher(a_teacher(channels=3), source, tmp_path / "s.zarr", SMALL)  # the same, said
    train_students({"small": linear()}, source, [store], TrainOptions(run=RunOptions(epochs=1, batch_size=8)))
    train_students({"teacher": linear()}, source, [], TrainOptions(run=RunOptions(epochs=1, batch_size=8)))

    assert evaluate_model(linear(), source, store=store).values["teacher_kl"] < 1e-3


def test_what_a_dump_met_is_a_warning(tmp_path: Path) -> None:
    source = cut_outs(tmp_path / "pets")

    with pytest.warns(OddSource, match=r"of 32 images looked at 32 transparent \(laid on white; `input.background`"):
        dump_teacher(a_teacher(), source, tmp_path / "s.zarr", SMALL)


def test_content_is_that_of_the_file_however_it_is_decoded(tmp_path: Path) -> None:
    source = cut_outs(tmp_path / "pets")

    sample = source.read(3)

    assert sample.content_hash == fields_hash(sample.fields)
