"""Files of a remote store, fetched by threads before they are asked for."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from softlab.errors import SoftlabError
from softlab.manifest import FileRecord
from softlab.remote.remote import Place
from softlab.store.files import read_file

MAX_THREADS = 16
MAX_AHEAD_BYTES = 256 << 20
"""Of files that are on their way or here and not yet taken. A larger one is fetched alone."""


class ReadAhead:
    """Fetches files of one store, each once, and holds them until they are taken or dropped.

    Whatever is taken has the recorded hash. A file that could not be fetched is read again when it is taken, so that
    only one that is really needed raises. The threads end with this object; a forked process begins anew.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._begin_anew()

    @property
    def is_idle(self) -> bool:
        """Whether no file is on its way, here, or to be fetched."""
        return not (self._held or self._waiting)

    def begin(self, records: Iterable[FileRecord], *, first: bool = False) -> None:
        """Fetch these files in this order, behind those begun before, or with `first` before those of them that still
        wait."""
        self._survive_fork()
        with self._lock:
            new = [each for each in records if each.path not in self._held]
            for each in new:
                self._waiting.setdefault(each.path, each)
            for each in reversed(new if first else []):
                self._waiting.move_to_end(each.path, last=False)
            self._start_waiting()

    def take(self, records: Sequence[FileRecord]) -> dict[str, bytes]:
        """The bytes of some files, by path; all of them are fetched at once. Raises as `read_file`."""
        self._survive_fork()
        with self._lock:
            futures = [self._held.get(each.path) or self._start(each) for each in records]
        try:
            return {each.path: self._finish(each, future) for each, future in zip(records, futures, strict=True)}
        finally:
            self.drop(records)

    def drop(self, records: Iterable[FileRecord]) -> None:
        """Don't fetch or hold these files any longer."""
        self._survive_fork()
        with self._lock:
            for each in records:
                self._waiting.pop(each.path, None)
                if self._held.pop(each.path, None) is not None:
                    self._held_bytes -= each.bytes
            self._start_waiting()

    def _finish(self, record: FileRecord, future: Future[bytes]) -> bytes:
        try:
            return future.result()
        except SoftlabError:  # perhaps of long ago
            return read_file(self._place, record)

    def _start_waiting(self) -> None:
        while self._waiting and self._running < MAX_THREADS:
            record = next(iter(self._waiting.values()))
            if self._held and self._held_bytes + record.bytes > MAX_AHEAD_BYTES:
                return
            self._start(record)

    def _start(self, record: FileRecord) -> Future[bytes]:
        self._waiting.pop(record.path, None)
        future = self._pool.submit(read_file, self._place, record)
        self._held[record.path] = future
        self._held_bytes += record.bytes
        self._running += 1
        future.add_done_callback(partial(_go_on, weakref.ref(self), os.getpid()))
        return future

    def _one_ended(self) -> None:
        with self._lock:
            self._running -= 1
            with suppress(RuntimeError):  # the interpreter is ending, and nobody will take what is fetched
                self._start_waiting()

    def _survive_fork(self) -> None:
        """None of the threads is there after a fork, and one of them may have held the lock."""
        if self._process != os.getpid():
            self._ending.detach()
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="softlab-read-ahead")
        self._ending = weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        self._ending.atexit = False
        self._held: dict[str, Future[bytes]] = {}
        self._waiting: OrderedDict[str, FileRecord] = OrderedDict()
        self._running = self._held_bytes = 0


def _go_on(ahead: "weakref.ref[ReadAhead]", process: int, _: Future[bytes]) -> None:
    """When a file is here; without keeping alive what nobody uses any more."""
    found = ahead()
    if found is not None and process == os.getpid():
        found._one_ended()
