import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from softlab.errors import SourceError, UnreadableSample
from softlab.sources import Source
from softlab.sources.folder import open_folder
from softlab.sources.summary import describe_source
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


def test_a_class_without_a_folder_keeps_its_label(tmp_path: Path) -> None:
    source = open_folder(animals(tmp_path, per_class=1), class_names=("ant", "cat", "dog"))

    assert source.class_names == ("ant", "cat", "dog")
    assert source.targets["label"].tolist() == [1, 2]
    assert describe_source(source).note == f"{source.name}: no images for 1 class (ant)"


def test_images_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    image = encoded(picture())
    source = open_folder(write_folder(tmp_path, {"b.png": image, "a.png": image, ".c.png": image}))

    assert source.keys == ["a.png", "b.png"]
    assert (dict(source.targets), source.class_names) == ({}, None)
    assert "images without class folders, taken as samples without labels" in describe_source(source).note


def test_a_folder_without_images_says_what_is_there_instead(tmp_path: Path) -> None:
    write_folder(tmp_path, {"data/a.parquet": b"", "data/b.parquet": b""})

    with pytest.raises(SourceError, match=r"no images in 1 class folders \(there are: 2 \.parquet\)\..*`source.path`"):
        open_folder(tmp_path)


def test_hidden_and_junk_folders_are_left_out_at_every_depth(tmp_path: Path) -> None:
    image = encoded(picture())
    junk = ["cat/.ipynb_checkpoints/0.png", "cat/old/@eaDir/0.png", "__MACOSX/cat/0.png", "dog/.Trash-1000/files/0.png"]
    source = open_folder(write_folder(animals(tmp_path, per_class=1), dict.fromkeys([*junk, "cat/Thumbs.db"], image)))

    assert source.keys == ["cat/0.png", "dog/0.png"]
    assert source.class_names == ("cat", "dog")
    assert source.found.hidden_folders == ("__MACOSX", "cat/.ipynb_checkpoints", "cat/old/@eaDir", "dog/.Trash-1000")
    assert source.found.hidden_files == 1


def test_links_that_lead_back_are_left_out_and_others_are_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"9.png": encoded(picture())})
    root = animals(tmp_path / "animals", per_class=1)
    (root / "cat/self").symlink_to(root / "cat")
    (root / "cat/all").symlink_to(root)
    (root / "cat/more").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "dog/cats").symlink_to(root / "cat")

    source = open_folder(root)

    assert source.keys == ["cat/0.png", "cat/more/9.png", "dog/0.png", "dog/cats/0.png", "dog/cats/more/9.png"]
    assert source.found.loops == ("cat/all", "cat/self", "dog/cats/all", "dog/cats/self", "loop")
    assert source.found.links_inside == ("dog/cats",)


def test_a_folder_that_may_not_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = animals(tmp_path), os.scandir

    def refuses(path: Path) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuses)

    with pytest.raises(SourceError, match=r"dog: Permission denied.*correct its permissions"):
        open_folder(root)


def test_what_was_left_out_is_one_line(tmp_path: Path) -> None:
    files = {"cat/a.heic": b"", "cat/b.heic": b"", "cat/n.txt": b"", "x.png": b"", "cow/n.txt": b"", "README.md": b""}
    source = open_folder(write_folder(animals(tmp_path / "animals"), files))

    summary = describe_source(source)

    assert (summary.num_samples, summary.num_classes) == (4, 3)
    assert summary.found is not None
    assert summary.found.suffixes == {".png": 4}
    assert summary.note == (
        "folder:animals: no images for 1 class (cow); left out files that aren't images (2 .heic, 2 .txt; .bmp, .jpeg, "
        ".jpg, .pgm, .png, .ppm, .tif, .tiff, .webp are taken); left out 1 image beside the class folders"
    )


def test_a_clean_folder_gives_no_note(tmp_path: Path) -> None:
    write_folder(animals(tmp_path), {".DS_Store": b"", "cat/.DS_Store": b"", "LICENSE": b""})

    assert describe_source(open_folder(tmp_path)).note == ""


def test_folders_of_splits_are_no_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/cat/0.png": encoded(picture()), "val/cat/0.png": encoded(picture())})

    with pytest.raises(SourceError, match=r"train, val are splits.*`source.path = .*/train` or `source.path = .*/val`"):
        open_folder(tmp_path)
    assert open_folder(tmp_path, class_names=("train", "val")).class_names == ("train", "val")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't allow such names")
def test_a_folder_whose_name_is_not_utf_8_has_one_that_can_be_stored(tmp_path: Path) -> None:
    source = open_folder(animals(tmp_path / os.fsdecode(b"caf\xe9")))

    assert source.name == r"folder:caf\xe9"
    assert source.read(0).fields["image"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't allow such names")
def test_a_file_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    animals(tmp_path)
    os.rename(tmp_path / "cat/0.png", os.fsencode(tmp_path) + b"/cat/caf\xe9.png")

    with pytest.raises(SourceError, match=r"is not UTF-8.*Rename it\."):
        open_folder(tmp_path)


def test_a_class_that_is_there_in_two_unicode_forms_is_told(tmp_path: Path) -> None:
    """One folder was made here, the other one copied from a Mac."""
    image = encoded(picture())
    source = open_folder(write_folder(tmp_path, {"caf\u00e9/1.png": image, "cafe\u0301/1.png": image}))

    summary = describe_source(source)

    assert summary.same_names == ("caf\u00e9",)
    assert summary.note.endswith("1 class (caf\u00e9) there twice, in two Unicode forms")
