"""The decoded row cache: a local file of packed rows for each store, view and group, shared by all processes.

    CACHE/<store digest>/outputs-logits-view-00000.rows         all rows of a view, filled shard by shard when touched
    CACHE/<store digest>/outputs-logits-view-00000.part-00003   hash of that shard's packed rows; written after them

A process trusts a shard's rows only after it has hashed them itself, which also reads a cold file in order. Rows that
don't fit their hash, from a crash or a full disk, are decoded anew. So no locks are needed: two processes that fill a
shard at once write the same bytes. Whoever has a file open keeps it when another process makes room by deleting it.
"""

import errno
import mmap
import os
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from softlab.disk import remove
from softlab.errors import InvalidOption, StoreWriteFailed
from softlab.identity import digest_of
from softlab.indices import StoreIndex
from softlab.shards import Shard, ShardGrid
from softlab.store.rows import Rows
from softlab.store.unit_rows import UnitRows, gather

DEFAULT_CACHE_BYTES = 64 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheOptions:
    """Where decoded rows are kept on this machine, and how many."""

    dir: Path | None = None
    """Folder of the row cache; default: the user's cache folder."""

    max_bytes: int = DEFAULT_CACHE_BYTES
    """Of all stores together; least recently used ones make room. 0 reads every batch from the compressed shards."""

    def __post_init__(self) -> None:
        if self.max_bytes < 0:
            raise InvalidOption(f"cache max_bytes = {self.max_bytes}: expected 0 or more.")

    @property
    def folder(self) -> Path:
        return self.dir or Path(platformdirs.user_cache_dir("softlab"))


class CachedRows:
    """All rows of one view and group of a store, as one memory-mapped file."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        grid: ShardGrid,
        row_bytes: int,
        decode: Callable[[Shard, Rows], None],
        view: int,
        units: UnitRows | None = None,
    ) -> None:
        """`decode` fills the rows of one shard; `units` says which rows a sample has where it hasn't just one."""
        self._grid, self._view, self._decode, self._units = grid, view, decode, units
        self._markers = folder / f"{name}-view-{view:05d}"
        num_rows = grid.num_samples if units is None else units.num_rows
        size = max(num_rows * row_bytes, 1)  # nothing can't be mapped
        self._descriptor = _open_rows(self._markers.with_suffix(".rows"), size=size)
        weakref.finalize(self, os.close, self._descriptor)
        mapped = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        self._rows: Rows = np.frombuffer(mapped, dtype=np.uint8, count=num_rows * row_bytes).reshape(
            num_rows, row_bytes
        )
        self._is_ready = np.zeros(grid.parts_per_view, dtype=bool)
        self._all_ready = False

    def take(self, store_B: StoreIndex) -> Rows:
        """A copy of the rows of some samples, in the order asked for."""
        if not self._all_ready:
            for part in np.unique(store_B // self._grid.shard_rows):
                if not self._is_ready[part]:
                    self._make_ready(self._grid.shard(self._view, int(part)))
            self._all_ready = bool(self._is_ready.all())
        if self._units is not None:
            return gather(self._rows, self._units.firsts(store_B), self._units.counts(store_B))
        rows: Rows = self._rows.take(store_B, axis=0)
        return rows

    def missing(self, store_B: StoreIndex) -> list[Shard]:
        """The shards of some rows that nobody on this machine has decoded yet, as far as can be told by names."""
        if self._all_ready:
            return []
        shards = self._grid.shards_of(store_B, view=self._view)
        return [each for each in shards if not (self._is_ready[each.part] or self._marker(each).exists())]

    def _make_ready(self, shard: Shard) -> None:
        marker = self._marker(shard)
        recorded = _read_marker(marker)
        first, stop = (shard.start, shard.stop) if self._units is None else self._units.span(shard)
        if recorded is None or recorded != digest_of(self._rows[first:stop].data):
            rows = np.empty((stop - first, self._rows.shape[1]), dtype=np.uint8)
            self._decode(shard, rows)
            _write_rows(self._descriptor, rows, offset=first * rows.shape[1], marker=marker)
        self._is_ready[shard.part] = True

    def _marker(self, shard: Shard) -> Path:
        return self._markers.with_suffix(f".part-{shard.part:05d}")


def cache_folder(options: CacheOptions, *, digest: str, name: str, needed_bytes: int) -> Path | None:
    """The folder for the rows of one group of a store, with room made for them; None if, with the store's groups that
    are there already, they are larger than the whole cache may be."""
    folder = options.folder / digest
    with _cache_errors(folder):
        needed_bytes += sum(file.stat().st_size for file in folder.glob("*.rows") if _group_of(file) != name)
        if needed_bytes > options.max_bytes:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _make_room(options.folder, keep=folder, max_bytes=options.max_bytes - needed_bytes)
    return folder


@contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Make room" if error.errno == errno.ENOSPC else "Mend the cause"
        raise StoreWriteFailed(
            f"{folder}: the row cache can't be written: {error.strerror}. {hint}, choose another `cache.dir`, "
            f"or read without it (`cache.max_bytes = 0`)."
        ) from error


def _make_room(root: Path, *, keep: Path, max_bytes: int) -> None:
    """Delete the rows of whole stores, the least recently opened first, until the others take at most `max_bytes`.
    What else lies in the folder isn't ours: it may be any that a user has."""
    others = sorted((folder for folder in root.iterdir() if _is_of_a_store(folder) and folder != keep), key=_last_use)
    sizes = [_bytes_in(folder) for folder in others]
    excess = sum(sizes) - max_bytes
    for folder, size in zip(others, sizes, strict=True):
        if excess <= 0:
            return
        _delete_rows(folder)
        excess -= size - _bytes_in(folder)


def _is_of_a_store(folder: Path) -> bool:
    return re.fullmatch("[0-9a-f]{64}", folder.name) is not None and folder.is_dir() and not folder.is_symlink()


def _delete_rows(folder: Path) -> None:
    """And the hashes of their parts. Those that another user wrote stay: their room can't be had."""
    files = [*folder.glob("*.rows"), *folder.glob("*.part-*")]
    with suppress(StoreWriteFailed):
        remove(folder.parent, [f"{folder.name}/{file.name}" for file in files])


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes_in(folder: Path) -> int:
    """On disk; 0 for a folder that another process has just deleted."""
    try:
        return sum(file.stat().st_blocks * 512 for file in folder.glob("*.rows"))
    except FileNotFoundError:
        return 0


def _group_of(file: Path) -> str:
    return file.name.rpartition("-view-")[0]


def _open_rows(path: Path, *, size: int) -> int:
    """A descriptor of a sparse file of the right size; never shortened, as another process may have it mapped."""
    with _cache_errors(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
    return descriptor


def _write_rows(descriptor: int, rows: Rows, *, offset: int, marker: Path) -> None:
    """Rows, then the marker; without a marker if the folder was deleted meanwhile, as the open file still serves us."""
    left = rows.reshape(-1).data
    with _cache_errors(marker.parent):
        while left:
            written = os.pwrite(descriptor, left, offset)
            left, offset = left[written:], offset + written
        with suppress(FileNotFoundError):
            marker.write_text(digest_of(rows.data))


def _read_marker(marker: Path) -> str | None:
    try:
        return marker.read_text(errors="replace")
    except OSError:  # or it can't be read now: the rows are decoded again
        return None
