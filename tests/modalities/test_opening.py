from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from softlab.errors import InvalidOption, OddSource, SourceError, UnreadableSample
from softlab.manifest import InputRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.sources import SourceOptions
from tests.sources.pictures import animals, encoded, image_of, image_rows, truncated_png, write_folder, write_parquet


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("animals", "folder:animals"),
        ("parts", "parquet:parts"),
        ("parts/a.parquet", "parquet:a.parquet"),
        ("parts/*.parquet", "parquet:*.parquet"),
        ("torchvision:FakeData", "torchvision:FakeData"),
    ],
)
def test_the_kind_is_found_from_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    animals(tmp_path / "animals")
    (tmp_path / "parts").mkdir()
    write_parquet(tmp_path / "parts/a.parquet", image_rows(2))
    monkeypatch.chdir(tmp_path)

    assert open_source(SourceOptions(path=path)).name == name
    assert open_source(path).name == name


def test_a_path_alone_is_enough(tmp_path: Path) -> None:
    assert len(open_source(animals(tmp_path))) == 4
    with pytest.raises(InvalidOption, match=r"`source\.path` is empty"):
        open_source("")


def test_a_kind_that_is_given_is_taken(tmp_path: Path) -> None:
    write_folder(animals(tmp_path), {"stray.parquet": b""})

    assert len(open_source(SourceOptions(path=str(tmp_path), kind="folder"))) == 4


def test_a_limit_counts_those_whose_keys_are_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("dog/1.png\ncat/1.png\ndog/0.png\n")
    options = SourceOptions(path=str(animals(tmp_path / "animals")), keys=tmp_path / "keys.txt", limit=2)

    assert list(open_source(options).keys) == ["cat/1.png", "dog/0.png"]


def test_a_limit_and_skipping_go_together(tmp_path: Path) -> None:
    write_folder(animals(tmp_path), {"cat/1.png": truncated_png(), "dog/1.png": truncated_png()})

    source = open_source(SourceOptions(path=str(tmp_path), limit=3, skip_unreadable=True))

    assert list(source.keys) == ["cat/0.png", "dog/0.png"]
    assert [skipped.key for skipped in source.skipped] == ["cat/1.png"]


def with_a_wide_image(root: Path) -> SourceOptions:
    """Of numbers up to 500, which only those can read who say what is white."""
    wide = Image.fromarray(np.full((4, 5), 500, dtype=np.int32))
    write_folder(animals(root), {"cat/wide.tif": encoded(wide, form="TIFF")})
    return SourceOptions(path=str(root), skip_unreadable=True)


@pytest.mark.parametrize(
    ("input", "left_out"),
    [
        (ImageInput(), ["cat/wide.tif"]),
        (ImageInput(value_range=(0, 1000)), []),
        (ImageInput(value_range=(0, 1000), max_pixels=20), ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]),
    ],
)
def test_what_is_skipped_is_what_the_models_input_can_not_decode(
    tmp_path: Path, input: ImageInput, left_out: list[str]
) -> None:
    source = open_source(with_a_wide_image(tmp_path), inputs=(input,))

    assert [skipped.key for skipped in source.skipped] == left_out


def test_beside_a_store_it_is_what_its_teacher_could_not_decode(tmp_path: Path) -> None:
    decode = {"rules": 2, "background": "white", "value_range": [0, 1000]}
    seen = InputRecord(field="image", modality="images", options={}, decode=decode)

    source = open_source(with_a_wide_image(tmp_path), inputs=(ImageInput(),), seen=(seen,))

    assert not source.skipped


def test_the_scan_for_unreadable_samples_tells_its_progress(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    options = SourceOptions(path=str(animals(tmp_path)), skip_unreadable=True)

    open_source(options, on_scan=lambda done, total: calls.append((done, total)))

    assert calls[-1] == (4, 4)


def test_without_skipping_nothing_is_decoded_at_opening(tmp_path: Path) -> None:
    source = open_source(SourceOptions(path=str(write_folder(tmp_path, {"cat/0.png": b""}))))

    with pytest.raises(UnreadableSample, match=r"`source\.skip_unreadable = true`"):
        image_of(source, 0)


@pytest.mark.parametrize("kind", ["auto", "folder", "parquet"])
def test_a_path_where_nothing_is_is_refused(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(SourceError, match=r"check `source\.path`"):
        open_source(SourceOptions(path=str(tmp_path / "nothing"), kind=kind))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no images in 0 class folders.*check `source.path`"):
        open_source(SourceOptions(path=str(tmp_path)))


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [])

    with pytest.raises(SourceError, match=r"no samples\. Check `source.path`"):
        open_source(SourceOptions(path=str(path)))


@pytest.mark.parametrize(
    ("options", "next_step"),
    [
        ({"root": Path("data")}, "Leave out `source.root` and `source.arguments`"),
        ({"arguments": {"train": True}}, "Leave out `source.root` and `source.arguments`"),
        ({"path": "torchvision:FakeData", "class_names": ("cat",)}, "Leave out `source.class_names`"),
        ({"limit": 5}, "Lower `source.limit` or leave it out"),
    ],
)
def test_options_that_dont_fit_the_data_are_refused(tmp_path: Path, options: dict[str, Any], next_step: str) -> None:
    with pytest.raises(InvalidOption, match=next_step):
        open_source(SourceOptions(**{"path": str(animals(tmp_path)), **options}))


def test_what_was_left_out_is_told_once_and_a_clean_folder_is_silent(tmp_path: Path) -> None:
    open_source(animals(tmp_path))

    write_folder(tmp_path, {"cat/a.heic": b""})

    with pytest.warns(OddSource, match=r"left out files that aren't images \(1 \.heic;.*Check `source\.path`"):
        open_source(tmp_path)


def test_labels_that_count_from_1_are_counted_from_0(tmp_path: Path) -> None:
    path = str(write_parquet(tmp_path / "a.parquet", image_rows(4), labels=[1, 3, None, 2]))

    source = open_source(SourceOptions(path=path, first_label=1))

    assert source.targets["label"].tolist() == [0, 2, -1, 1]
    assert image_of(source, 3).equal(image_of(open_source(path), 3))


def test_a_label_below_the_first_one_is_refused(tmp_path: Path) -> None:
    path = str(write_parquet(tmp_path / "a.parquet", image_rows(2), labels=[0, 1]))

    with pytest.raises(SourceError, match=r"has the label 0, below `source\.first_label = 1`"):
        open_source(SourceOptions(path=path, first_label=1))


def test_without_labels_there_is_nothing_to_count(tmp_path: Path) -> None:
    path = str(write_parquet(tmp_path / "a.parquet", image_rows(2)))

    assert not open_source(SourceOptions(path=path, first_label=1)).targets


def test_named_classes_are_not_counted_from_1(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"the names of 2 classes\. Leave `source\.first_label` out"):
        open_source(SourceOptions(path=str(animals(tmp_path)), first_label=1))
