import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from softlab.manifest import FileRecord, ShardRecord
from softlab.store.commit_record import CommitRecord, held, rows_of


def record_of(rows: list[int]) -> CommitRecord:
    """Of a shard whose samples have so many rows each."""
    return CommitRecord(
        shard=ShardRecord(view=0, start=4, stop=4 + len(rows), files=(), statistics={}),
        hashes_file=FileRecord(path="commits/view-00000-part-00001.hashes", bytes=0, blake3="0" * 64),
        pixel_digests=b"",
        rows=np.array(rows, dtype="<i8").tobytes(),
    )


@given(rows=st.lists(st.integers(0, 1 << 40), min_size=1, max_size=9))
def test_counts_of_rows_are_the_same_however_they_are_held(rows: list[int]) -> None:
    record = record_of(rows)

    assert rows_of(record).tolist() == rows_of(held(record)).tolist() == rows
    assert rows_of(held(held(record))).tolist() == rows


def test_small_counts_take_a_byte_each() -> None:
    assert [len(held(record_of([0, most])).rows) for most in (255, 256, 1 << 16, 1 << 32)] == [2, 4, 8, 16]


def test_without_units_nothing_is_held() -> None:
    record = CommitRecord(shard=record_of([1]).shard, hashes_file=record_of([1]).hashes_file, pixel_digests=b"12345678")

    assert held(record) == record
    assert len(rows_of(record)) == 0
