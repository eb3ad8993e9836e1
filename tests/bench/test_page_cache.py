import mmap
from pathlib import Path

import pytest

from softlab.bench.page_cache import CAN_FORGET, forget_pages


@pytest.mark.skipif(not CAN_FORGET, reason="this system can't be asked to")
def test_a_file_is_the_same_after_it_was_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * mmap.PAGESIZE)

    forget_pages([path, path])

    assert path.read_bytes() == bytes(range(256)) * mmap.PAGESIZE


def test_no_file_is_nothing_to_forget() -> None:
    forget_pages([])
