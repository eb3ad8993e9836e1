from pathlib import Path

import pytest

from softlab.identity import digest_of
from softlab.student.growing_file import GrowingFile


def test_what_was_added_changes_the_hash_to_that_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    growing = GrowingFile(path)

    for text in (b"", b"one\n", b"one\ntwo\n", b"one\ntwo\nthree\n"):
        path.write_bytes(text)
        assert growing.digest_until(len(text)) == digest_of(text)


def test_what_was_hashed_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\n")
    growing = GrowingFile(path)
    growing.digest_until(4)
    path.write_bytes(b"???\ntwo\n")

    assert growing.digest_until(8) == digest_of(b"one\ntwo\n")


def test_bytes_after_the_count_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\ntwo\n")

    assert GrowingFile(path).digest_until(4) == digest_of(b"one\n")


def test_a_file_that_was_cut_off_is_hashed_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\ntwo\n")
    growing = GrowingFile(path)
    growing.digest_until(8)
    path.write_bytes(b"one\n")

    assert growing.digest_until(4) == digest_of(b"one\n")


@pytest.mark.parametrize("count", [100, 1 << 62])
def test_a_count_beyond_the_end_is_the_whole_file(count: int, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\n")

    assert GrowingFile(path).digest_until(count) == digest_of(b"one\n")
    assert GrowingFile(tmp_path / "none").digest_until(count) == digest_of(b"")
