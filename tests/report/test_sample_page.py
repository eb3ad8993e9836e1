import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softlab.errors import InvalidOption, StoreMismatch
from softlab.modalities.images.contact_sheet import MARGIN, PIXELS, WIDTH, Picture, contact_sheet_png
from softlab.report.sample_page import write_sample_page
from softlab.store.sample_rows import sample_rows
from tests.teacher.dumping import Pictures, dump, read_all

HOSTILE = ("<script>alert(1)</script>", *(f"class {number}" for number in range(1, 20)))


def test_a_page_holds_the_images_and_what_was_said_of_them(tmp_path: Path) -> None:
    source = Pictures(targets_N=np.zeros(50, dtype=np.int64))
    dump(tmp_path / "store", source=source)
    store = read_all(tmp_path / "store")[0]
    rows = sample_rows(store, 3)

    write_sample_page(store, rows, source, tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert [np.asarray(Image.open(BytesIO(data))).tolist() for data in pictures] == [
        source._pixels(row.index).transpose(1, 2, 0).tolist() for row in rows
    ]
    assert all(row.key in page and str(row.classes[0]) in page for row in rows)
    assert "http" not in page


def test_a_png_sheet_holds_them_side_by_side(tmp_path: Path) -> None:
    source = Pictures(targets_N=np.zeros(50, dtype=np.int64))
    dump(tmp_path / "store", source=source)
    store = read_all(tmp_path / "store")[0]
    rows = sample_rows(store, 8)

    write_sample_page(store, rows, source, tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as image:
        sheet_HWC = np.asarray(image)
    found = [_place_of(source._pixels(row.index).transpose(1, 2, 0), sheet_HWC) for row in rows]
    across, down = WIDTH + MARGIN, found[6][0] - found[0][0]
    top, left = found[0]
    assert found == [(top + down * (number // 6), left + across * (number % 6)) for number in range(8)]
    captions_HWC = sheet_HWC[top + PIXELS : top + down - MARGIN]
    assert (captions_HWC == 0).all(axis=2).any(), "text below them"
    assert (captions_HWC == [176, 0, 0]).all(axis=2).any(), "in red where the teacher says another class"


def _place_of(pixels_HWC: np.ndarray, sheet_HWC: np.ndarray) -> tuple[int, int]:
    """Of a picture in a larger one."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet_HWC, pixels_HWC.shape)[:, :, 0]
    rows, columns = np.nonzero((windows == pixels_HWC).all(axis=(2, 3, 4)))
    assert len(rows) == 1
    return int(rows[0]), int(columns[0])


@pytest.mark.parametrize(("count", "columns", "height"), [(0, 1, 0), (1, 1, 1), (6, 6, 1), (7, 6, 2)])
def test_a_sheet_has_as_many_rows_as_it_needs(count: int, columns: int, height: int) -> None:
    dot = BytesIO()
    Image.new("L", (2, 2)).save(dot, format="PNG")
    pictures = [Picture(png=dot.getvalue(), lines=("a" * 500,))] * count

    with Image.open(BytesIO(contact_sheet_png("a title", pictures))) as sheet:
        assert sheet.width == MARGIN + columns * (WIDTH + MARGIN)
        assert sheet.height == 15 + 2 * MARGIN + height * (PIXELS + 15 + MARGIN)


def test_names_can_hold_no_markup(tmp_path: Path) -> None:
    source = Pictures(targets_N=np.zeros(50, dtype=np.int64), class_names=HOSTILE)
    dump(tmp_path / "store", source=source)
    store = read_all(tmp_path / "store")[0]

    write_sample_page(store, sample_rows(store, 3), source, tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script" in page


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (Pictures(count=40), "its sample '0049.png' isn't in memory:pictures"),
        (Pictures(black=frozenset({49})), "sample '0049.png' of memory:pictures is not what the teacher saw"),
    ],
)
def test_other_images_than_the_teacher_saw_are_refused(tmp_path: Path, source: Pictures, found: str) -> None:
    dump(tmp_path / "store")
    store = read_all(tmp_path / "store")[0]

    with pytest.raises(StoreMismatch, match=found):
        write_sample_page(store, sample_rows(store, 3), source, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_file_that_is_no_page_is_refused(tmp_path: Path) -> None:
    dump(tmp_path / "store")
    store = read_all(tmp_path / "store")[0]

    with pytest.raises(InvalidOption, match=r"Name a file such as .*page\.html\."):
        write_sample_page(store, sample_rows(store, 1), Pictures(), tmp_path / "page.pdf")
