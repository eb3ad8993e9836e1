import re
from pathlib import Path

import pytest

from softlab.errors import InvalidOption
from softlab.models.build import ModelOptions
from softlab.models.class_names import published_class_names, read_class_names


def test_names_are_one_a_line_in_the_order_of_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffzebra\r\nfire engine\r\nant\r\n\r\n".encode())

    assert read_class_names(path) == ("zebra", "fire engine", "ant")


@pytest.mark.parametrize(
    ("text", "found"), [(b"ant\n\nbee\n", "line 2 is empty"), (b"\n", "holds no class names"), (b"\xff\xfe", "UTF-8")]
)
def test_a_file_that_would_shift_names_is_refused(tmp_path: Path, text: bytes, found: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(text)

    with pytest.raises(InvalidOption, match=f"{found}.*one class a line"):
        read_class_names(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=re.escape("can't read these class names: No such file")):
        read_class_names(tmp_path / "names.txt")


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"])
def test_weights_of_torchvision_bring_their_names(weights: str) -> None:
    names = published_class_names(ModelOptions(model="torchvision:resnet18", arguments={"weights": weights}))

    assert names is not None
    assert (len(names), names[0]) == (1000, "tench")


def test_a_downloaded_file_of_torchvision_is_known_by_its_name() -> None:
    published = Path("somewhere/resnet18-f37072fd.pth")

    assert published_class_names(ModelOptions(model="torchvision:resnet18", weights=published)) is not None
    assert published_class_names(ModelOptions(model="torchvision:resnet50", weights=published)) is None


@pytest.mark.parametrize("model", ["torchvision:resnet18", "softlab:grey_cnn", "timm:resnet18", "torchvision:nothing"])
def test_other_weights_bring_none(model: str) -> None:
    assert published_class_names(ModelOptions(model=model)) is None
    assert published_class_names(ModelOptions(model=model, weights=Path("own.safetensors"))) is None
