import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from softlab.errors import SourceError, UnreadableSample
from softlab.sources import Source
from softlab.sources.folder import open_folder
from softlab.testing.sources import SourceContract
from tests.sources.pictures import animals, encoded, image_of, picture, truncated_png, write_folder


class TestFolderSource(SourceContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Source]:
        animals(tmp_path / "animals")
        return lambda: open_folder(tmp_path / "animals")


def test_keys_are_relative_paths_in_order_and_labels_follow_the_sorted_folders(tmp_path: Path) -> None:
    image = encoded(picture())
    write_folder(tmp_path, {"dog/a.png": image, "cat/b.JPG": image, "cat/old/a.png": image, "cat-2/z.png": image})

    source = open_folder(tmp_path)

    assert source.keys == ["cat-2/z.png", "cat/b.JPG", "cat/old/a.png", "dog/a.png"]
    assert source.class_names == ("cat", "cat-2", "dog")
    assert source.targets["label"].tolist() == [1, 0, 0, 2]


def test_files_that_are_no_images_or_are_hidden_are_left_out(tmp_path: Path) -> None:
    animals(tmp_path, per_class=1)
    write_folder(tmp_path, {"cat/notes.txt": b"", "cat/._0.png": b"", ".cache/0.png": b"", "top.png": b""})

    assert open_folder(tmp_path).keys == ["cat/0.png", "dog/0.png"]


def test_class_names_give_the_order_of_the_labels(tmp_path: Path) -> None:
    source = open_folder(animals(tmp_path, per_class=1), class_names=("dog", "cat"))

    assert source.class_names == ("dog", "cat")
    assert source.targets["label"].tolist() == [1, 0]


def test_equal_files_have_equal_content_hashes_wherever_they_lie(tmp_path: Path) -> None:
    one, other = encoded(picture(seed=1)), encoded(picture(seed=2))
    source = open_folder(write_folder(tmp_path, {"cat/a.png": one, "dog/a.png": one, "dog/b.png": other}))

    hashes = [source.read(number).content_hash for number in range(3)]

    assert hashes[0] == hashes[1] != hashes[2]


def test_a_corrupt_image_is_found_when_it_is_decoded_and_not_before(tmp_path: Path) -> None:
    write_folder(animals(tmp_path), {"dog/bad.png": truncated_png()})
    source = open_folder(tmp_path)

    with pytest.raises(UnreadableSample, match=r"'dog/bad.png'.*truncated.*`source.skip_unreadable = true`"):
        image_of(source, source.keys.index("dog/bad.png"))


def test_a_file_that_has_gone_since_is_an_unreadable_sample(tmp_path: Path) -> None:
    source = open_folder(animals(tmp_path))
    (tmp_path / "cat/0.png").unlink()

    with pytest.raises(UnreadableSample, match=r"'cat/0\.png' can't be read: No such file or directory\."):
        source.read(0)


def test_a_folder_that_is_none_of_the_class_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'cat' is none of the 2 class names\. Did you mean cats\?"):
        open_folder(animals(tmp_path), class_names=("cats", "dog"))


def test_a_class_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder for the class 'dogs'\. Did you mean dog\?"):
        open_folder(animals(tmp_path), class_names=("cat", "dog", "dogs"))


def test_images_outside_class_folders_are_no_data_set(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.png": encoded(picture())})

    with pytest.raises(SourceError, match=r"no images in 0 class folders\..*check `source.path`"):
        open_folder(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't allow such names")
def test_a_file_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    animals(tmp_path)
    os.rename(tmp_path / "cat/0.png", os.fsencode(tmp_path) + b"/cat/caf\xe9.png")

    with pytest.raises(SourceError, match=r"is not UTF-8.*Rename it\."):
        open_folder(tmp_path)
