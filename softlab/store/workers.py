"""Who is at work on a dump: each process that writes shards tells it in a small file, for `dump_state` to read.

    STORE/commits/workers/<host>-<pid>.json

Nothing hangs on these files: a process whose file can't be written goes on. Rates are measured by each process's own
clock that never goes back; the time of day is only told.
"""

import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from softlab.errors import StoreError
from softlab.remote.remote import Place
from softlab.store.folder import COMMITS, PLAN_NAME
from softlab.store.place import files_at

WORKERS = f"{COMMITS}/workers"
TOLD_EVERY_S = 1.0
SHARDS_OF_RATE = 8
"""How many of the last shards tell how fast a process is."""

SILENT_S = 600.0
SILENT_SHARDS = 3.0
"""A process that has told nothing for ten minutes, and for three times as long as its shards take, is not at work."""


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a process tells of itself."""

    host: str
    pid: int
    at_s: float
    """When it was told, by the clock of its machine, since 1970."""

    shards: int = 0
    rows: int = 0
    """Committed by this process."""

    shard_seconds: float | None = None
    rows_per_second: float | None = None
    """Of its last shards; None before the first one."""

    has_ended: bool = False

    def is_at_work(self, now_s: float) -> bool:
        """Whether it can be taken to be, at a time of day. A clock that was put back makes nobody silent; of the
        processes of this machine it is known."""
        if self.has_ended or (self.host == socket.gethostname() and not _is_running(self.pid)):
            return False
        return now_s - self.at_s <= max(SILENT_S, SILENT_SHARDS * (self.shard_seconds or 0.0))


OnShard = Callable[[int], None]
"""Called with the rows of a shard that was committed."""


@contextmanager
def at_work(root: Place, *, clock: Callable[[], float] = time.monotonic) -> Iterator[OnShard]:
    """Tell others that this process writes shards of a dump; call what it gives after each."""
    worker = _Worker(root, clock)
    worker.tell()
    try:
        yield worker.count
    finally:
        worker.tell(has_ended=True)


def read_workers(root: Place) -> list[WorkerRecord]:
    """The one that was heard of last comes first."""
    found = []
    for path in files_at(root).paths(WORKERS):
        with suppress(StoreError, ValueError):
            data = files_at(root).read(path)
            found += [] if data is None else [msgspec.json.decode(data, type=WorkerRecord)]
    return sorted(found, key=lambda worker: worker.at_s, reverse=True)


class _Worker:
    """What this process has done, and when it told so."""

    def __init__(self, root: Place, clock: Callable[[], float]) -> None:
        self._root, self._clock = root, clock
        self._shards = self._rows = 0
        self._points = deque([(clock(), 0)], maxlen=SHARDS_OF_RATE + 1)
        self._told_s = clock()

    def count(self, rows: int) -> None:
        self._shards += 1
        self._rows += rows
        self._points.append((self._clock(), self._rows))
        if self._clock() - self._told_s >= TOLD_EVERY_S:
            self.tell()

    def tell(self, *, has_ended: bool = False) -> None:
        if not files_at(self._root).has(PLAN_NAME):  # the store was finished meanwhile
            return
        self._told_s = self._clock()
        (start_s, first), (end_s, last) = self._points[0], self._points[-1]
        seconds, is_known = end_s - start_s, last > first and end_s > start_s
        record = WorkerRecord(
            host=socket.gethostname(),
            pid=os.getpid(),
            at_s=time.time(),
            shards=self._shards,
            rows=self._rows,
            shard_seconds=seconds / (len(self._points) - 1) if is_known else None,
            rows_per_second=(last - first) / seconds if is_known else None,
            has_ended=has_ended,
        )
        name = f"{re.sub('[^A-Za-z0-9.-]', '_', record.host)}-{record.pid}.json"
        with suppress(StoreError):
            files_at(self._root).write({f"{WORKERS}/{name}": msgspec.json.encode(record)})


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
