import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softlab.errors import InvalidOption, StoreMismatch
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
        write_sample_page(store, sample_rows(store, 1), Pictures(), tmp_path / "page.png")
