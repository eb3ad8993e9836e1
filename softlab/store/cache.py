"""The decoded row cache: a local file of packed rows for each store, view and group, shared by all processes.

    CACHE/<store digest>/outputs-logits-view-00000.rows         all rows of a view, filled shard by shard when touched
    CACHE/<store digest>/outputs-logits-view-00000.part-00003   hash of that shard's packed rows; written after them

A process trusts a shard's rows only after it has hashed them itself, which also reads a cold file in order. Rows that
don't fit their hash, from a crash or a full disk, are decoded anew. So no locks are needed: two processes that fill a
shard at once write the same bytes. Whoever has a file open keeps it when another process makes room by deleting it.

Rows become labels without another look at the store, so nobody else may write them: a store's folder is its user's
alone, and the hash is keyed by what the manifest records for the shard's files. Whoever can write there all the same
could make such a hash, so shards are decoded again and compared, as `CacheOptions.check` says.
"""

import errno
import math
import mmap
import os
import re
import secrets
import stat
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import platformdirs

from softlab.disk import remove, temporary_name
from softlab.errors import ChangedCache, InvalidOption, StoreWriteFailed
from softlab.identity import keyed_digest_of
from softlab.indices import StoreIndex
from softlab.plain_files import open_plain, read_plain
from softlab.shards import Shard, ShardGrid
from softlab.store.rows import Rows
from softlab.store.unit_rows import UnitRows, gather

DEFAULT_CACHE_BYTES = 64 << 30
MAX_MARKER_BYTES = 64
TRIES = 100
"""At a folder that other processes delete to make room: each of theirs begins with an opening of its own."""

Check = Literal["none", "some", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheOptions:
    """Where decoded rows are kept on this machine, and how many."""

    dir: Path | None = None
    """Folder of the row cache; default: the user's cache folder."""

    max_bytes: int = DEFAULT_CACHE_BYTES
    """Of all stores together; least recently used ones make room. 0 reads every batch from the compressed shards."""

    images_gib: float = 0.0
    """GiB of decoded images that are kept beside the rows, for later runs over the same images; 0 keeps none."""

    check: Check = "some"
    """Of rows that are there, which are decoded again and compared when a process first reads them: no shard, one
    shard of each view of a store on this machine, chosen at random (`some`), or every shard of any store. A store on
    this machine whose signature is required has all of them checked."""

    def __post_init__(self) -> None:
        if self.max_bytes < 0:
            raise InvalidOption(f"cache max_bytes = {self.max_bytes}: expected 0 or more.")
        if not 0 <= self.images_gib < math.inf:
            raise InvalidOption(
                f"cache.images_gib = {self.images_gib:g}: expected 0 or more. Change `cache.images_gib`."
            )

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
        recorded: Callable[[Shard], str],
        view: int,
        units: UnitRows | None = None,
        check: Check = "none",
    ) -> None:
        """`decode` fills the rows of one shard; `recorded` gives what the manifest says of its files; `units` says
        which rows a sample has where it hasn't just one; `check` is that of the options."""
        self._grid, self._view, self._decode, self._units = grid, view, decode, units
        self._recorded, parts = recorded, range(grid.parts_per_view)
        self._to_check = set(parts) if check == "all" else {secrets.choice(parts)} if check == "some" else set()
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
        marker, key = self._marker(shard), self._recorded(shard)
        first, stop = (shard.start, shard.stop) if self._units is None else self._units.span(shard)
        said = _read_marker(marker)  # without any, a look at the rows might ask for room on a full disk
        is_right = said is not None and said == keyed_digest_of(self._rows[first:stop].data, key=key)
        if not is_right or shard.part in self._to_check:
            rows = np.empty((stop - first, self._rows.shape[1]), dtype=np.uint8)
            self._decode(shard, rows)
            if is_right and not np.array_equal(rows, self._rows[first:stop]):
                warnings.warn(
                    f"{marker.parent}: held other rows than the store has for shard {shard.name}, under a hash that "
                    f"fits them. They are made anew; find out who wrote them.",
                    ChangedCache,
                    stacklevel=2,
                )
                is_right = False
            if not is_right:
                _write_rows(self._descriptor, rows, offset=first * rows.shape[1], marker=marker, key=key)
        self._is_ready[shard.part] = True

    def _marker(self, shard: Shard) -> Path:
        return self._markers.with_suffix(f".part-{shard.part:05d}")


def cache_folder(options: CacheOptions, *, digest: str, name: str, needed_bytes: int) -> Path | None:
    """The folder for the rows of one group of a store, with room made for them; None if, with the store's groups that
    are there already, they are larger than the whole cache may be, and where others keep making room of it."""
    folder = options.folder / digest
    with _cache_errors(folder):
        for _ in range(TRIES):
            with suppress(FileNotFoundError):  # another process made room just then
                others = sum(file.stat().st_size for file in folder.glob("*.rows") if _group_of(file) != name)
                if others + needed_bytes > options.max_bytes:
                    return None
                make_private(folder)
                os.utime(folder)
                _make_room(options.folder, keep=folder, max_bytes=options.max_bytes - others - needed_bytes)
                return folder
    return None


def make_private(folder: Path, *, without: str = "`cache.max_bytes = 0`") -> None:
    """Raises StoreWriteFailed for a folder of another user, who could write something else into it, and names the
    option to do `without`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StoreWriteFailed(
            f"{folder}: is a link, no folder, or another user's, so that what it holds proves nothing. Choose a "
            f"`cache.dir` of your own, or read without the cache ({without})."
        )
    if found.st_mode & 0o077:  # made by softlab when it was less strict
        folder.chmod(0o700)


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
        descriptor = _open_own(path)
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
    return descriptor


def _open_own(path: Path) -> int:
    """In place of a link or a pipe, and in a folder of which another process may make room at this very moment."""
    for _ in range(TRIES):
        try:
            return open_plain(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            make_private(path.parent)
        except OSError as error:
            if error.errno != errno.ELOOP or path.is_dir():
                raise
            path.unlink()
    return open_plain(path, os.O_RDWR | os.O_CREAT, 0o600)


def _write_rows(descriptor: int, rows: Rows, *, offset: int, marker: Path, key: str) -> None:
    """Rows, then the marker; without a marker if the folder was deleted meanwhile, as the open file still serves us."""
    left = rows.reshape(-1).data
    with _cache_errors(marker.parent):
        while left:
            written = os.pwrite(descriptor, left, offset)
            left, offset = left[written:], offset + written
        temporary = marker.with_name(temporary_name(marker.name))
        with suppress(FileNotFoundError):
            temporary.write_text(keyed_digest_of(rows.data, key=key))
            os.replace(temporary, marker)  # whatever was in its place: a link isn't followed


def _read_marker(marker: Path) -> str | None:
    try:
        return read_plain(marker, max_bytes=MAX_MARKER_BYTES).decode(errors="replace")
    except OSError:  # whatever it is, the rows are decoded anew, and the marker replaced
        return None
