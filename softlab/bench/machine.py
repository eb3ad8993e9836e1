"""The machine that is measured: its description, its page cache and its disk."""

import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

from softlab.errors import InvalidOption, StoreWriteFailed
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store

CAN_FORGET = hasattr(os, "posix_fadvise")
"""Whether this system can be asked to drop a file from its page cache. Linux can, macOS can't."""


def describe_machine() -> str:
    """Processor, cores, threads of torch, GPU and versions in one line: a figure means nothing without them."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in ["softlab", "torch", "numpy", "zarr", "pyarrow"])
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}; "
        f"Python {platform.python_version()}, {versions}"
    )


def forget_pages(paths: Iterable[Path]) -> None:
    """Drop files from the page cache, so that the next read of them comes from the disk.

    No process may be writing them. It is a request: pages that another process has mapped stay in memory. Nothing
    happens where the system can't be asked.
    """
    if not CAN_FORGET:
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def open_on_disk(where: str | Path, *, cache: CacheOptions | None = None) -> Store:
    """A store on this machine's disk. Raises InvalidOption for one on a server, whose speed is not this machine's;
    else as `open_store`."""
    store = open_store(where, cache=cache)
    if not isinstance(store.path, Path):
        raise InvalidOption(
            f"{where}: lies on a server, and bench measures this machine. Pull it first: `softlab pull {where} DIR`."
        )
    return store


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in the row cache's folder, so on the same disk; deleted at the end. Raises StoreWriteFailed."""
    with scratch_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True)
    with scratch as name:
        yield Path(name)


@contextmanager
def scratch_errors(path: Path) -> Iterator[None]:
    """Turns an OSError while scratch files are written into StoreWriteFailed."""
    try:
        yield
    except OSError as error:
        raise StoreWriteFailed(
            f"{path}: can't be written: {error.strerror}. Make room, or choose another `cache.dir`."
        ) from error
