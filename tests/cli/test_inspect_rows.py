import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.program import DATA, TEACHER, Softlab, assert_refused


def test_inspect_shows_rows_by_class_name(stores: Path, softlab: Softlab) -> None:
    answer = softlab("inspect", stores / "train.zarr", "--rows", "5")

    lines = answer.out.splitlines()
    assert (answer.code, answer.err, len(lines)) == (0, "", 6)
    assert lines[0].split() == ["sample", "target", "teacher", "confidence", "tail"]
    rows = json.loads(softlab("inspect", stores / "train.zarr", "--rows", "5", "--json").out)["rows"]
    for line, row in zip(lines[1:], rows, strict=True):
        assert row["key"] in line
        assert f"{row['classes'][0]['name']} {row['classes'][0]['probability']:.3f}" in line


def test_inspect_shows_rows_one_below_the_other_where_there_is_no_room(
    stores: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    answer = softlab("inspect", stores / "train.zarr", "--rows", "2")

    assert [line.split()[0] for line in answer.out.splitlines()[:5]] == [
        *("sample", "target", "teacher", "confidence", "tail"),
    ]
    assert "…" not in answer.out


def test_inspect_writes_thumbnails_of_the_source_and_of_no_other(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    page = tmp_path / "page.html"

    written = softlab("inspect", stores / "train.zarr", "--thumbnails", page, "--source", DATA / "train", "--rows", "9")

    assert (written.code, written.out) == (0, f"{page}: 9 samples\n")
    assert page.read_text().count("<img") == 9
    page.unlink()
    bare = softlab("inspect", stores / "train.zarr", "--thumbnails", page)
    assert_refused(bare, "records its data as parquet:train", "`source` (--source)")
    other = softlab("inspect", stores / "train.zarr", "--thumbnails", page, "--source", DATA / "test")
    assert_refused(other, "`source` (--source)")
    assert not page.exists()


@pytest.mark.filterwarnings("default::softlab.errors.OddSource")
def test_class_names_of_a_file_are_those_of_the_store(tmp_path: Path, softlab: Softlab) -> None:
    names, out = tmp_path / "names.txt", tmp_path / "store"
    names.write_text("\n".join(f"kind {number}" for number in range(10)))
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.new("L", (28, 28), 80 * number).save(images / f"{number}.png")
    dump = ("dump-teacher", *TEACHER, "--source", images, "--out", out, "--class-names", names)

    dumped = softlab(*dump)
    shown = softlab("inspect", out, "--rows", "3")

    assert dumped.code == 0, dumped.err
    assert shown.out.count("kind ") == 9
    names.write_text("one\ntwo")
    assert_refused(softlab(*dump[:-4], "--out", tmp_path / "other", *dump[-2:]), "has 2 names, but softlab:grey_resnet")
