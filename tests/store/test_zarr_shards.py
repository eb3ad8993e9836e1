import struct

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from softlab.manifest import FieldRecord
from softlab.shards import Dtype
from softlab.store.format import Array
from softlab.store.zarr_shards import Wanted, decode_shards

FIELD = FieldRecord(name="outputs/logits/logits", dtype="float16", row_shape=(3,), chunk_rows=4)
SHARD_ROWS = 12
NUM_CHUNKS = 3
INDEX_BYTES = 16 * NUM_CHUNKS + 4


def shard_of_zarr(rows: Array, field: FieldRecord, *, shard_rows: int, **codec: str | int) -> bytes:
    """The file that zarr itself writes for a shard's first rows."""
    contents: dict[str, object] = {}
    array = zarr.create_array(
        MemoryStore(contents),  # type: ignore[arg-type]
        shape=(shard_rows, *field.row_shape),
        dtype=field.dtype,
        chunks=(field.chunk_rows, *field.row_shape),
        shards=(shard_rows, *field.row_shape),
        compressors=[BloscCodec(**(codec or {"cname": "zstd", "clevel": 1})), Crc32cCodec()],  # type: ignore[arg-type]
        config={"write_empty_chunks": True},
    )
    array[: len(rows)] = rows
    (key,) = [key for key in contents if key.startswith("c/")]
    data: bytes = contents[key].to_bytes()  # type: ignore[attr-defined]
    return data


@pytest.fixture
def shard() -> bytearray:
    return bytearray(shard_of_zarr(np.arange(36, dtype="f2").reshape(12, 3), FIELD, shard_rows=SHARD_ROWS))


def decode_shard(data: bytes, field: FieldRecord, *, num_rows: int, shard_rows: int) -> Array:
    rows = np.full((num_rows, *field.row_shape), 77, dtype=field.dtype)
    decode_shards([Wanted(data, field, rows, shard_rows)])
    return rows


def decode(shard: bytes | bytearray) -> Array:
    return decode_shard(bytes(shard), FIELD, num_rows=12, shard_rows=SHARD_ROWS)


@given(
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "float16", "float32"]),
    row_shape=st.sampled_from([(), (1,), (5,), (2, 3)]),
    num_chunks=st.integers(1, 5),
    chunk_rows=st.integers(1, 9),
    missing_rows=st.integers(0, 44),
    codec=st.sampled_from(["zstd", "lz4", "lz4hc", "zlib", "blosclz"]),
    shuffle=st.sampled_from(["shuffle", "bitshuffle", "noshuffle"]),
)
def test_the_rows_are_those_that_zarr_wrote_however_blosc_was_set(
    dtype: Dtype,
    row_shape: tuple[int, ...],
    num_chunks: int,
    chunk_rows: int,
    missing_rows: int,
    codec: str,
    shuffle: str,
) -> None:
    field = FieldRecord(name="outputs/logits/a", dtype=dtype, row_shape=row_shape, chunk_rows=chunk_rows)
    shard_rows = num_chunks * chunk_rows
    num_rows = max(shard_rows - missing_rows, 1)
    rows = np.random.default_rng(0).integers(0, 200, (num_rows, *row_shape)).astype(dtype)
    data = shard_of_zarr(rows, field, shard_rows=shard_rows, cname=codec, clevel=5, shuffle=shuffle)

    found = decode_shard(data, field, num_rows=num_rows, shard_rows=shard_rows)

    np.testing.assert_array_equal(found, rows, strict=True)


def test_several_files_fill_columns_of_the_same_rows(shard: bytearray) -> None:
    rows = np.zeros((11, 2, 3), dtype="f2")
    wanted = [Wanted(bytes(shard), FIELD, rows[:, column], SHARD_ROWS) for column in (1, 0)]

    decode_shards(wanted)

    expected = np.arange(33, dtype="f2").reshape(11, 3)
    np.testing.assert_array_equal(rows, np.stack([expected, expected], axis=1))


def test_the_number_of_threads_changes_nothing(shard: bytearray) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = decode(shard)
        torch.set_num_threads(3)
        np.testing.assert_array_equal(decode(shard), alone, strict=True)
    finally:
        torch.set_num_threads(before)


# Files that are no such shard, although their hash is the one that a manifest names.


def test_a_file_too_short_for_an_index_is_refused() -> None:
    with pytest.raises(ValueError, match="can't hold the index of 3 chunks"):
        decode(bytes(INDEX_BYTES - 1))


@pytest.mark.parametrize(("start", "length"), [(0, 1 << 40), (1 << 40, 50), ((1 << 64) - 1, (1 << 64) - 1), (0, 19)])
def test_a_chunk_outside_the_file_or_too_short_for_one_is_refused(shard: bytearray, start: int, length: int) -> None:
    struct.pack_into("<QQ", shard, len(shard) - INDEX_BYTES + 16, start, length)

    with pytest.raises(ValueError, match="chunk 1 "):
        decode(shard)


@pytest.mark.parametrize("position", [4, 12], ids=["decoded", "encoded"])
@pytest.mark.parametrize("size", [0, 23, 1 << 30])
def test_a_chunk_that_claims_other_sizes_is_refused_before_it_is_decoded(
    shard: bytearray, position: int, size: int
) -> None:
    struct.pack_into("<I", shard, position, size)

    with pytest.raises(ValueError, match="says that it has"):
        decode(shard)


@given(st.data())
def test_damaged_bytes_give_an_error_or_rows_but_never_more_or_fewer(data: st.DataObject) -> None:
    shard = bytearray(shard_of_zarr(np.arange(36, dtype="f2").reshape(12, 3), FIELD, shard_rows=SHARD_ROWS))
    for _ in range(data.draw(st.integers(1, 4))):
        shard[data.draw(st.integers(0, len(shard) - 1))] = data.draw(st.integers(0, 255))

    try:
        rows = decode(shard)
    except (ValueError, RuntimeError):
        return
    assert rows.shape == (12, 3)
