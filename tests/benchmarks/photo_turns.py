"""A loader of photographs in a process of its own, which works when it is told to and measures itself.

Seconds are those of the processor, of all threads of that process: other work on a shared machine changes them little.
"""

# Shape letters: B rows in a batch, C channels, H height, W width.

import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torchvision.models import shufflenet_v2_x0_5

from tests.benchmarks.peers.photo_loader import SIDE, Loaded, PhotoLoader, PhotoSet

SHRINK = 4
"""The student sees images of 56 x 56, so that its step takes no longer than loading them."""

QUIET_S, QUIET = 0.03, 3
"""Seconds between looks at whether a process still works, and how many looks in a row must find that it doesn't."""

Answer = TypeVar("Answer")
BATCH, GRADIENT, END = "batch", "gradient", "end"
PRELOADED = [
    "tests.benchmarks.photo_turns",
    "tests.benchmarks.peers.photo_libraries",
    "tests.benchmarks.peers.photo_own",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What it cost to have a first batch, once everything was imported."""

    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Of one turn."""

    samples: int
    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """Of all turns."""

    memory_bytes: int
    """At the peak, beyond what was there once everything was imported."""

    bytes_a_sample: float
    """That were read from files by calls of the system; what is mapped into memory is not counted."""


class Loading:
    """A loader in its process. Raises ImportError where it isn't installed."""

    def __init__(self, loader: PhotoLoader, photos: PhotoSet) -> None:
        context = get_context("forkserver")  # each as fresh as a new interpreter, and the libraries are imported once
        context.set_forkserver_preload(PRELOADED)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, loader, photos), daemon=True)
        self._process.start()
        theirs.close()
        self.start: Start = self._answer(Start)

    def turn(self, kind: str, *, batches: int) -> Rates:
        """`kind` is BATCH for batches alone, GRADIENT for a training step on each too."""
        self._connection.send((kind, batches))
        return self._answer(Rates)

    def end(self) -> Totals:
        self._connection.send((END, 0))
        totals = self._answer(Totals)
        self._process.join()
        return totals

    def _answer(self, kind: type[Answer]) -> Answer:
        answer = self._connection.recv()
        if isinstance(answer, ImportError):
            self._process.join()
            raise answer
        if isinstance(answer, str):
            raise RuntimeError(answer)
        assert isinstance(answer, kind)
        return answer


def _serve(connection: Connection, loader: PhotoLoader, photos: PhotoSet) -> None:
    warnings.simplefilter("ignore")  # what a peer warns of is not ours to mend
    torch.set_num_threads(1)
    try:
        for answer in _answers(connection, loader, photos):
            connection.send(answer)
    except ImportError as error:
        connection.send(ImportError(str(error)))
    except BaseException:
        connection.send(f"{loader.name}: {traceback.format_exc()}")


def _answers(connection: Connection, loader: PhotoLoader, photos: PhotoSet) -> Iterator[Start | Rates | Totals]:
    for name in loader.modules:
        import_module(name)
    learn = _learning(photos)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    memory_bytes, start = _status("VmRSS"), time.process_time()
    batches = loader.load(photos)
    _check(next(batches), photos)
    yield Start(cpu_s=time.process_time() - start)
    read, samples, done = _bytes_read(), 0, _quiet_s()
    while (told := connection.recv())[0] != END:
        num_samples = _use(batches, learn if told[0] == GRADIENT else _leave, count=told[1])
        before, done, samples = done, _quiet_s(), samples + num_samples
        yield Rates(samples=num_samples, cpu_s=done - before)
    read = _bytes_read() - read
    yield Totals(memory_bytes=_status("VmHWM") - memory_bytes, bytes_a_sample=read / max(samples, 1))


def _quiet_s() -> float:
    """Processor time of this process, once its threads have loaded ahead all that they do."""
    before, quiet = time.process_time(), 0
    while quiet < QUIET:
        time.sleep(QUIET_S)
        now = time.process_time()
        quiet = quiet + 1 if now - before < QUIET_S / 10 else 0
        before = now
    return before


def _use(batches: Iterator[Loaded], use: Callable[[Loaded], None], *, count: int) -> int:
    """So many batches; returns how many samples they had."""
    samples = 0
    for _ in range(count):
        batch = next(batches)
        use(batch)
        samples += len(batch.images_BCHW)
    return samples


def _leave(_: Loaded) -> None:
    """Of a turn that loads and does no more."""


def _learning(photos: PhotoSet) -> Callable[[Loaded], None]:
    """A training step of a small student."""
    student = nn.Sequential(nn.AvgPool2d(SHRINK), shufflenet_v2_x0_5(num_classes=photos.num_classes)).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)

    def learn(batch: Loaded) -> None:
        loss = batch.loss(student(batch.images_BCHW))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return learn


def _check(batch: Loaded, photos: PhotoSet) -> None:
    assert batch.images_BCHW.shape == (photos.batch_size, 3, SIDE, SIDE), batch.images_BCHW.shape
    assert batch.images_BCHW.dtype == torch.float32
    assert 0.3 < float(batch.images_BCHW.std()) < 3, "normalised"


def _status(name: str) -> int:
    """Bytes, of a field of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _bytes_read() -> int:
    with suppress(StopIteration):
        lines = Path("/proc/self/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))
    return 0
