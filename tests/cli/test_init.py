"""A first recipe for the user's own data, and that it runs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softlab.modalities.images.known_inputs import known_input
from tests.cli.program import DATA, Softlab, assert_refused


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Of two classes, two sizes, grey and RGB."""
    draws = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "photographs" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shape = [(30, 40), (20, 20, 3)][number % 2]
        Image.fromarray(draws.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photographs"


def test_a_dump_a_teacher_and_students_of_ones_own_run_from_first_recipes(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, softlab: Softlab
) -> None:
    monkeypatch.chdir(tmp_path)
    model = "softlab:grey_cnn"

    def written(what: str, *arguments: object) -> str:
        answer = softlab("init", what, "--source", photographs, *arguments)
        assert answer.code == 0, answer.err
        assert f"{what}.toml: written" in answer.out
        return (tmp_path / f"{what}.toml").read_text()

    teacher = written("teacher", "--teacher", model)
    grey = ("--set", "input.channels=1", "--set", "input.size=[28, 28]", "--mean", 0.5, "--std", 0.3)
    assert softlab("train-teacher", "teacher.toml", "--epochs", 1, *grey, "--set", "log.track=[]").code == 0
    weights = "runs/teacher/teacher/last.safetensors"
    dump = written("dump", "--teacher", model, "--weights", weights)
    arguments = ("--set", "teacher.arguments.num_classes=2")
    planned = softlab("dump-teacher", "dump.toml", "--plan", *grey, *arguments)
    dumped = softlab("dump-teacher", "dump.toml", *grey, *arguments)
    train = written("train", "--store", "runs/train.zarr", "--student", model, "--valid", photographs)
    trained = softlab("train-student", "train.toml", "--epochs", 1, *grey, "--set", "log.track=[]")

    assert "12 samples, 2 classes" in teacher
    assert "arguments = { num_classes = 2 }" in teacher
    assert "channels = 1  # as the model's first convolution takes; grey ones and RGB among them" in dump
    assert "k = 2  # of 2 classes" in dump
    assert 'store = ["runs/train.zarr"]  # 12 samples, 1 view, K = 2 of 2 classes' in train
    assert [answer.code for answer in (planned, dumped, trained)] == [0, 0, 0], planned.err + dumped.err + trained.err


def test_a_published_model_brings_its_own_input(tmp_path: Path, softlab: Softlab) -> None:
    out = tmp_path / "dump.toml"

    answer = softlab("init", "dump", "--source", DATA / "test", "--teacher", "torchvision:resnet18", "--out", out)

    assert answer.code == 0, answer.err
    text = out.read_text()
    assert "size = [224, 224]  # as torchvision:resnet18 was published" in text
    assert "mean = [0.485, 0.456, 0.406]" in text
    assert "channels = 3" in text


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("nets:coloured", "channels = 3  # as the model's first convolution takes; of the images 1"),
        ("nets:with_arguments", "# channels = 3"),
    ],
)
def test_grey_images_are_made_rgb_for_a_model_of_ones_own_that_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, softlab: Softlab, model: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def coloured(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10))\n"
        "def with_arguments(size): raise AssertionError\n"
    )

    answer = softlab("init", "dump", "--source", DATA / "test", "--teacher", model, "--out", "dump.toml")

    assert answer.code == 0, answer.err
    assert line in (tmp_path / "dump.toml").read_text().splitlines()


def test_images_of_the_channels_that_a_model_takes_stay_as_they_are(tmp_path: Path, softlab: Softlab) -> None:
    out = tmp_path / "dump.toml"
    softlab("init", "dump", "--source", DATA / "test", "--teacher", "softlab:grey_cnn", "--out", out)

    assert "channels" not in out.read_text().replace("channels_last", "").replace("1 channels", "")


@pytest.mark.parametrize(
    ("model", "size", "resize"),
    [("torchvision:resnet18", (224, 224), 256), ("timm:resnet18.a1_in1k", (224, 224), 235)],
)
def test_the_inputs_of_published_models_are_known(model: str, size: tuple[int, int], resize: int) -> None:
    found = known_input(model)

    assert found is not None
    assert (found.size, found.resize, found.channels) == (size, resize, 3)
    assert found.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("model", ["softlab:grey_cnn", "my.module:factory", "torchvision:nothing", "timm:nothing"])
def test_the_input_of_another_model_is_not_guessed(model: str) -> None:
    assert known_input(model) is None


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path, softlab: Softlab) -> None:
    out = tmp_path / "dump.toml"
    out.write_text("mine")

    answer = softlab("init", "dump", "--source", DATA / "test", "--teacher", "softlab:grey_cnn", "--out", out)

    assert_refused(answer, "is there already, and stays as it is. Give another file as --out")
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dump", "--source", DATA / "test"), "--teacher is missing"),
        (("train", "--source", DATA / "test", "--student", "softlab:grey_mlp"), "--store is missing"),
        (("teacher", "--source", "nowhere", "--teacher", "softlab:grey_cnn"), "nowhere"),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[object, ...], message: str, tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("init", *arguments, "--out", tmp_path / "recipe.toml")

    assert_refused(answer, message)
    assert not (tmp_path / "recipe.toml").exists()


def test_the_folder_of_the_file_is_made_and_a_disk_that_refuses_it_is_told(tmp_path: Path, softlab: Softlab) -> None:
    (tmp_path / "file").write_text("mine")
    dump = ("init", "dump", "--source", DATA / "test", "--teacher", "softlab:grey_cnn", "--out")

    answer = softlab(*dump, tmp_path / "recipes/first/dump.toml")
    refused = softlab(*dump, tmp_path / "file/dump.toml")

    assert (answer.code, (tmp_path / "recipes/first/dump.toml").exists()) == (0, True)
    assert_refused(refused, f"{tmp_path / 'file'}: can't write: ")
