from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softlab.errors import InvalidOption, SourceError, UnreadableSample
from softlab.identity import content_hash
from softlab.loading.sample_check import comparable_targets
from softlab.modalities.images.torchvision_sets import open_torchvision
from softlab.sources import Source
from softlab.testing.sources import SourceContract
from tests.sources.pictures import animals, image_of, truncated_png, write_folder

LABELS = [9, 0, 3, 3]


def write_fashion_mnist(root: Path) -> Path:
    """The test split of a Fashion-MNIST of 4 images, in the original idx format."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for stem in ("train", "t10k"):
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(_idx_header(4, 28, 28) + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(_idx_header(4) + bytes(LABELS))
    return root


def _idx_header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def open_fashion_mnist(root: Path) -> Source:
    return open_torchvision("FashionMNIST", root=root, arguments={"train": False})


class TestTorchvisionSource(SourceContract):
    hashes_fields = False  # but shape and pixels

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Source]:
        write_fashion_mnist(tmp_path)
        return lambda: open_fashion_mnist(tmp_path)


def test_targets_and_class_names_are_those_of_the_set(tmp_path: Path) -> None:
    source = open_fashion_mnist(write_fashion_mnist(tmp_path))

    assert source.name == "torchvision:FashionMNIST"
    assert source.targets["label"].tolist() == LABELS
    assert source.class_names is not None
    assert source.class_names[9] == "Ankle boot"
    assert image_of(source, 0).shape == (1, 28, 28)


def test_letters_of_emnist_are_read_as_torchvision_counts_them(tmp_path: Path) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "emnist-letters-test-images-idx3-ubyte").write_bytes(_idx_header(4, 28, 28) + bytes(4 * 28 * 28))
    (raw / "emnist-letters-test-labels-idx1-ubyte").write_bytes(_idx_header(4) + bytes([1, 26, 2, 3]))

    source = open_torchvision("EMNIST", root=tmp_path, arguments={"split": "letters", "train": False})

    targets_N = source.targets["label"]
    assert source.class_names is not None
    assert [source.class_names[target] for target in targets_N.tolist()] == ["a", "z", "b", "c"]
    of_26 = comparable_targets(source, num_classes=26)
    assert of_26 is not None
    assert of_26.tolist() == [0, 25, 1, 2]


def test_content_hashes_tell_pictures_of_different_shapes_apart() -> None:
    wide, tall = (
        open_torchvision("FakeData", root=None, arguments={"size": 1, "image_size": size})
        for size in ([3, 2, 4], [3, 4, 2])
    )

    pixels_CHW = wide.read(0).fields["image"]
    assert isinstance(pixels_CHW, np.ndarray)
    assert wide.read(0).content_hash == content_hash(b"3x2x4:" + pixels_CHW.tobytes())
    assert wide.read(0).content_hash != tall.read(0).content_hash


def test_a_set_without_labels_in_advance_has_unknown_targets_and_padded_keys() -> None:
    source = open_torchvision("FakeData", root=None, arguments={"size": 11, "image_size": [3, 4, 4]})

    assert not source.targets
    assert source.class_names is None
    assert source.keys[:2] == ["00", "01"]


def test_several_names_of_one_class_are_joined(tmp_path: Path) -> None:
    torch.save(({"n1": ("crane", "bird"), "n2": ("crane", "machine")}, []), tmp_path / "meta.bin")
    write_folder(tmp_path / "train", {"n1/a.png": b"", "n2/a.png": b""})

    source = open_torchvision("ImageNet", root=tmp_path, arguments={})

    assert source.class_names == ("crane, bird", "crane, machine")


def test_a_corrupt_image_is_found_when_it_is_read_and_not_before(tmp_path: Path) -> None:
    (animals(tmp_path) / "dog/9.png").write_bytes(truncated_png())
    source = open_torchvision("ImageFolder", root=tmp_path, arguments={})

    with pytest.raises(UnreadableSample, match=r"torchvision:ImageFolder: sample '4'.*`source.skip_unreadable = true`"):
        source.read(4)


def test_a_set_that_is_not_of_images_is_refused_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "MovingMNIST").mkdir()
    np.save(tmp_path / "MovingMNIST/mnist_test_seq.npy", np.zeros((20, 2, 4, 4), dtype=np.uint8))
    source = open_torchvision("MovingMNIST", root=tmp_path, arguments={})

    with pytest.raises(SourceError, match=r"torchvision:MovingMNIST: .* Choose a set of images and labels"):
        source.read(0)


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidOption, match=r"no data set 'FashonMNIST'\. Did you mean FashionMNIST"):
        open_torchvision("FashonMNIST", root=None, arguments={})


@pytest.mark.parametrize("arguments", [{"trian": True}, {"split": "dev"}])
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=r"Correct `source.root` and `source.arguments`"):
        open_torchvision("SVHN", root=tmp_path, arguments=arguments)


def test_data_that_is_not_there_is_not_downloaded_unasked(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"Dataset not found.*Point `source.root` at .*`source.arguments.download = true`"
    ):
        open_fashion_mnist(tmp_path)

    assert list(tmp_path.iterdir()) == []
