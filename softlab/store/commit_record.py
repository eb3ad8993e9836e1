"""What is written down when a shard is finished."""

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.manifest import FileRecord, OwnHash, Record, ShardRecord, decode_under_way
from softlab.shards import Shard
from softlab.store.folder import COMMITS
from softlab.store.place import StoreFiles


class CommitRecord(Record, frozen=True, kw_only=True):
    """One finished shard."""

    shard: ShardRecord
    hashes_file: FileRecord
    pixel_digests: bytes
    """8 bytes, little-endian, for each view of the shard whose digest is kept, in the order of samples."""

    rows: bytes = b""
    """Likewise for each sample: how many rows it has in an output with units."""

    self_digest: OwnHash = msgspec.field(name="self", default="")


def rows_of(record: CommitRecord) -> NDArray[np.int64]:
    """How many rows each sample of the shard has in an output with units; none without units."""
    num_bytes = len(record.rows) // (record.shard.stop - record.shard.start)
    return np.frombuffer(record.rows, dtype=f"<u{num_bytes or 1}").astype(np.int64)


def held(record: CommitRecord) -> CommitRecord:
    """The same for memory, where those of all shards are: its rows in as few bytes each as they need."""
    most = int(rows_of(record).max(initial=0))
    num_bytes = next(each for each in (1, 2, 4, 8) if most < 1 << 8 * each)
    return msgspec.structs.replace(record, rows=rows_of(record).astype(f"<u{num_bytes}").tobytes())


def record_name(shard: Shard) -> str:
    return f"{COMMITS}/{shard.name}.json"


def read_commit(files: StoreFiles, path: str) -> CommitRecord | None:
    """None where there is none, or one that isn't as it was written."""
    data = files.read(path)
    try:
        return None if data is None else decode_under_way(data, CommitRecord)
    except ValueError:
        return None


def is_of(record: CommitRecord, shard: Shard) -> bool:
    """Whether a record is that of a shard, and not of another one under its name."""
    return (record.shard.view, record.shard.start, record.shard.stop) == (shard.view, shard.start, shard.stop)


def is_present(file: FileRecord, size: Callable[[str], int | None]) -> bool:
    """Whether a file is there, by its size."""
    return size(file.path) == file.bytes
