import mmap
from pathlib import Path

import pytest

from softlab.bench.machine import CAN_FORGET, forget_pages, scratch_folder
from softlab.errors import StoreWriteFailed


@pytest.mark.skipif(not CAN_FORGET, reason="this system can't be asked to")
def test_a_file_is_the_same_after_it_was_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * mmap.PAGESIZE)

    forget_pages([path, path])

    assert path.read_bytes() == bytes(range(256)) * mmap.PAGESIZE


def test_no_file_is_nothing_to_forget() -> None:
    forget_pages([])


def test_a_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "cache") as folder:
        (folder / "file").touch()

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()

    with (
        pytest.raises(StoreWriteFailed, match=r"can't be written: .*choose another `cache.dir`"),
        scratch_folder(tmp_path / "cache"),
    ):
        pass
