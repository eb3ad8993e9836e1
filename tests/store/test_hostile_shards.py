"""Shards that a hostile manifest vouches for: their hashes are right, and what they claim of themselves is not."""

import os
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softlab.errors import DamagedStore
from softlab.identity import digest_of
from softlab.manifest import FileRecord, Manifest, encode
from softlab.store.cache import CacheOptions
from softlab.store.format import FormatName
from softlab.store.parquet_format import ParquetFormat
from softlab.store.reader import open_store
from softlab.store.samples import decode_samples
from tests.forks import run_in_fork
from tests.store.building import make_plan, write_store

pytestmark = pytest.mark.process

PARQUET_FILE, ZARR_FILE = "outputs/logits/view=00000/part-00000.parquet", "outputs/logits/logits/c/0/0/0"
GIB = 1 << 30
ROOM_BYTES = 512 << 20
"""Also of address space for threads."""


def vouch_for(root: Path, name: str, data: bytes) -> None:
    """Other bytes for a file of the first shard, in a manifest that says they are right."""
    manifest = open_store(root).manifest
    first, *rest = manifest.shards
    record = FileRecord(path=name, bytes=len(data), blake3=digest_of(data))
    files = tuple(record if file.path == name else file for file in first.files)
    shards = (msgspec.structs.replace(first, files=files), *rest)
    changed: Manifest = msgspec.structs.replace(manifest, shards=shards)
    (root / name).write_bytes(data)
    (root / "manifest.json").write_bytes(encode(changed))


def blosc_of_a_gib(_: bytes) -> bytes:
    """33 KB or so of Blosc that decode to 1 GiB of zeros, as the only chunks of a shard."""
    small = bytearray(numcodecs.Blosc(cname="zstd", clevel=9).encode(np.zeros(1 << 20, dtype=np.uint8)))
    small[4:8] = struct.pack("<I", GIB)
    chunk = bytes(small) + bytes(33_000 - len(small))
    chunk = chunk[:12] + struct.pack("<I", len(chunk)) + chunk[16:] + bytes(4)
    index = struct.pack("<QQ", 0, len(chunk)) * 2
    return chunk + index + bytes(4)


def long_lists(data: bytes) -> bytes:
    """As many rows as there should be, in which a list has 2^26 zeros: references to
    a dictionary of one value, so that each page says it is small."""
    table = pq.read_table(pa.BufferReader(data))
    zeros = pa.array(np.zeros(1 << 26, dtype=np.float32))
    offsets = pa.array([0, 1 << 26, *([1 << 26] * (len(table) - 1))], pa.int32())
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(2, "logits", pa.ListArray.from_arrays(offsets, zeros)), sink, compression="zstd")
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def lying_page(data: bytes) -> bytes:
    """A page of 4 MiB whose header asks for 128 MiB, which is as long a number."""
    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(1)
    at = column.data_page_offset
    assert data[at : at + 3] == b"\x15\x00\x15", "the kind of page, then how much it decodes to"
    assert [byte >> 7 for byte in data[at + 3 : at + 7]] == [1, 1, 1, 0]
    return data[: at + 3] + b"\xfe\xff\xff\x7f" + data[at + 7 :]


def other_rows(data: bytes) -> bytes:
    """2^26 rows of next to nothing."""
    sink = pa.BufferOutputStream()
    rows = pa.array(np.zeros(1 << 26, dtype=np.uint8))
    pq.write_table(pa.table({"sample": rows, "class_ids": rows, "logits": rows}), sink, compression="zstd")
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


LARGE = {"wide": (1 << 20,)}
CASES: dict[str, tuple[FormatName, str, Callable[[bytes], bytes], str]] = {
    "blosc": ("zarr", ZARR_FILE, blosc_of_a_gib, "decoded"),
    "long lists": ("parquet", PARQUET_FILE, long_lists, "pages of more values than"),
    "other rows": ("parquet", PARQUET_FILE, other_rows, "a file of 67,108,864 rows instead of 4"),
    "lying page": ("parquet", "outputs/wide/view=00000/part-00000.parquet", lying_page, "where rows take"),
}


def read_with_little_memory(root: Path, feature: str | None, message: str) -> None:
    """In a process of its own. Exit code 0 where it is refused for the right reason."""
    store = open_store(root, cache=CacheOptions(max_bytes=0))
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + ROOM_BYTES, resource.RLIM_INFINITY))
    try:
        store.read_packed([0], feature=feature)
    except DamagedStore as error:
        os._exit(0 if message in str(error) and "Get the store again." in str(error) else 2)
    os._exit(1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux tells how much is in use")
@pytest.mark.parametrize("case", CASES)
def test_a_shard_that_claims_to_decode_to_far_more_than_its_rows_is_refused_without_that_memory(
    tmp_path: Path, case: str
) -> None:
    format, name, make, message = CASES[case]
    feature = "wide" if "wide" in name else None
    plan = make_plan(format=format, num_samples=4, num_views=1, features=LARGE if feature else {})
    write_store(tmp_path, plan)
    vouch_for(tmp_path, name, make((tmp_path / name).read_bytes()))

    assert run_in_fork(read_with_little_memory, tmp_path, feature, message) == 0


def decode_with_each_bit_of_the_footer_changed(name: str, data: bytes) -> None:
    """In a process of its own, as Arrow would end it. Exit code 0 where each is decoded or refused."""
    decode = {"samples": decode_samples_of, "labels": decode_labels}[name]
    size = int.from_bytes(data[-8:-4], "little")
    for at in range(len(data) - 8 - size, len(data) - 4):
        for bit in (1, 16):
            changed = bytearray(data)
            changed[at] ^= bit
            with suppress(ValueError, LookupError, OSError, RuntimeError):  # what a reader takes for damage
                decode(bytes(changed))


def decode_samples_of(data: bytes) -> None:
    decode_samples(data, num_samples=11)


def decode_labels(data: bytes) -> None:
    plan = make_plan(format="parquet")
    fields = plan.storage.fields_of("outputs/logits")
    out = {field.name: np.zeros((4, *field.row_shape), dtype=field.dtype) for field in fields}
    ParquetFormat().decode(plan, plan.grid.shard(0, 0), fields, {PARQUET_FILE: data}, out)


@pytest.mark.parametrize(("name", "file"), [("samples", "samples.parquet"), ("labels", PARQUET_FILE)])
def test_no_changed_bit_of_a_footer_ends_the_process(tmp_path: Path, name: str, file: str) -> None:
    write_store(tmp_path, make_plan(format="parquet"))
    data = (tmp_path / file).read_bytes()
    {"samples": decode_samples_of, "labels": decode_labels}[name](data)

    assert run_in_fork(decode_with_each_bit_of_the_footer_changed, name, data) == 0
