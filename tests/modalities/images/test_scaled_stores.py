"""Stores whose teacher saw scaled or shrunk images, and who may train from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softlab.errors import InvalidOption, StoreMismatch, UnsupportedStore
from softlab.evaluation.one_model import evaluate_model
from softlab.loading.options import CheckOptions
from softlab.manifest import InputRecord
from softlab.modalities.images.decoding import Jpeg
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.opening import open_source
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.reader import Store, open_store
from softlab.student.options import RunOptions, TrainOptions
from softlab.student.train import train_students
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.manifests import change_manifest
from tests.modalities.images.photos import jpeg
from tests.sources.pictures import write_folder

pytestmark = pytest.mark.filterwarnings("ignore::softlab.errors.SoftlabWarning")

SIDE = 24
CROPS = ViewRecipe(transforms=(f"RandomResizedCrop({SIDE}, scale=[0.5, 1.0])", "RandomHorizontalFlip()"))
ALL = TrainOptions(run=RunOptions(epochs=1, batch_size=4), check=CheckOptions(verify_inputs="all"))
SCALED = {"jpeg": "scaled", "jpeg_decoder": "simplejpeg", "jpeg_rules": 1}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    files = {f"{'ab'[seed % 2]}/{seed}.jpg": jpeg(160, 120, seed=seed) for seed in range(8)}
    return open_source(write_folder(tmp_path / "photos", files))


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(3 * 16, 2))


def dump(source: Source, out: Path, *, augment: ViewRecipe | None = CROPS, **input: Any) -> Store:
    teacher = Teacher(module=linear(), name="linear", arguments={}, input=ImageInput(size=(SIDE, SIDE), **input))
    options = DumpOptions(k=2, batch_size=4, pixel_digests="all", views="2" if augment else "1")
    dump_teacher(teacher, source, out, options, augment=augment or ViewRecipe())
    return open_store(out)


def train(source: Source, store: Store, **input: Any) -> None:
    train_students({"small": linear()}, source, [store], ALL, input=ImageInput(size=(SIDE, SIDE), **input))


@pytest.mark.parametrize(
    ("input", "record"),
    [
        ({"jpeg": "scaled"}, SCALED),
        ({"shrink": 50}, {"shrink": 50}),
        ({"jpeg": "scaled", "shrink": 50}, SCALED | {"shrink": 50}),
        ({"jpeg": "whole"}, {}),
    ],
)
@pytest.mark.parametrize("augment", [CROPS, None], ids=["views", "as they are"])
def test_a_student_that_says_nothing_sees_what_its_teacher_saw(
    tmp_path: Path, source: Source, input: dict[str, Any], record: dict[str, Any], augment: ViewRecipe | None
) -> None:
    store = dump(source, tmp_path / "s.zarr", augment=augment, **input)

    train(source, store)
    train(source, store, **input)

    assert store.manifest.inputs[0].decode == {"rules": 2, "background": "white"} | record
    assert ("simplejpeg" in store.manifest.libraries) == ("jpeg" in record)
    evaluation = evaluate_model(linear(), source, store=store, input=ImageInput(size=(SIDE, SIDE)))
    assert evaluation.values["teacher_kl"] < 1e-4  # the teacher itself


@pytest.mark.parametrize(
    ("seen", "asked", "message"),
    [
        ({"jpeg": "scaled"}, {"jpeg": "whole"}, r"`input.jpeg = whole`, but .* \(scaled\). Leave `input.jpeg` out"),
        ({}, {"jpeg": "scaled"}, r"`input.jpeg = scaled`, but .* \(whole\). Leave `input.jpeg` out"),
        ({"shrink": 50}, {"shrink": 40}, r"`input.shrink = 40`, but .* \(50\). Leave `input.shrink` out"),
        ({}, {"shrink": 40}, r"`input.shrink = 40`, but .* \(not shrunk\). Leave `input.shrink` out"),
    ],
)
def test_a_student_that_asks_for_other_pixels_is_refused_with_the_way_out(
    tmp_path: Path, source: Source, seen: dict[str, Any], asked: dict[str, Any], message: str
) -> None:
    store = dump(source, tmp_path / "s.zarr", **seen)

    with pytest.raises(StoreMismatch, match=message):
        train(source, store, **asked)


@pytest.mark.parametrize("seen", [{"jpeg": "scaled"}, {"shrink": 50}, {"jpeg": "scaled", "shrink": 50}])
@pytest.mark.parametrize("augment", [CROPS, None], ids=["views", "as they are"])
def test_where_the_record_is_lost_the_digests_of_pixels_tell(
    tmp_path: Path, source: Source, seen: dict[str, Any], augment: ViewRecipe | None
) -> None:
    dump(source, tmp_path / "s.zarr", augment=augment, **seen)
    change_manifest(
        tmp_path / "s.zarr", lambda tree: tree["inputs"][0].update(decode={"rules": 2, "background": "white"})
    )

    with pytest.raises(StoreMismatch, match="isn't what the teacher saw: its pixels differ"):
        train(source, open_store(tmp_path / "s.zarr"))


@pytest.mark.parametrize(
    "decode",
    [
        {"jpeg": "scaled"},
        SCALED | {"jpeg_rules": 2},
        SCALED | {"jpeg_decoder": "other"},
        {"shrink": 0},
        {"shrink": "9"},
    ],
)
def test_a_record_of_another_way_to_scale_asks_for_a_later_softlab(decode: dict[str, Any]) -> None:
    record = InputRecord(field="image", modality="images", options={}, decode={"rules": 2} | decode)

    with pytest.raises(UnsupportedStore, match=r"in a way that this softlab doesn't know .*Upgrade softlab"):
        MODALITY.for_inputs([ImageInput()], record)


def test_students_of_one_run_agree_on_how_their_images_are_decoded() -> None:
    both = MODALITY.for_inputs([ImageInput(jpeg="scaled"), ImageInput(shrink=9)], None)

    assert (both.decoding.jpeg, both.decoding.shrink) == ("scaled", 9)
    with pytest.raises(InvalidOption, match=r"`input.jpeg` is scaled for one model and whole for another"):
        MODALITY.for_inputs([ImageInput(jpeg="scaled"), ImageInput(jpeg="whole")], None)
    with pytest.raises(InvalidOption, match=r"`input.shrink` is 9 for one model and 8 for another"):
        MODALITY.for_inputs([ImageInput(shrink=9), ImageInput(shrink=8)], None)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"jpeg": "half"}, "jpeg: 'half' isn't a way to decode. Give `input.jpeg` whole or scaled"),
        ({"shrink": 0}, "shrink: 0 leaves no pixel. Give `input.shrink` 1 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidOption, match=problem):
        ImageInput(**options)


def test_a_jpeg_whose_pixels_can_not_be_decoded_is_skipped_as_without_scaling(tmp_path: Path) -> None:
    without_tables = jpeg(64, 48).replace(b"\xff\xdb", b"\xff\xfe")
    folder = write_folder(tmp_path / "photos", {"a/0.jpg": jpeg(64, 48), "a/1.jpg": without_tables})
    options = SourceOptions(path=str(folder), skip_unreadable=True)

    ways: tuple[Jpeg, ...] = ("whole", "scaled")
    for way in ways:
        kept = open_source(options, inputs=[ImageInput(jpeg=way)])

        assert [each.key for each in kept.skipped] == ["a/1.jpg"]
