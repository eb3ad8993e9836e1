"""Room in shared memory for the batches that loader processes hand over.

torch puts each tensor that one process gives another into a file below /dev/shm, by both of its sharing strategies.
Docker gives a container 64 MB there. Where it is full a process is killed by SIGBUS as it writes, and the others may
wait for it without end; so what is needed is compared with what is free before the first batch.
"""

import os
from pathlib import Path

from softlab.amounts import format_bytes
from softlab.errors import InvalidOption
from softlab.ranks import num_local_ranks

SHARED_MEMORY = Path("/dev/shm")

PREFETCHED = 2
"""Batches that torch's loaders have made ahead by each of their processes."""

IN_HAND = 2
"""Batches beside those: one that is worked with, one that is about to be."""


def check_shared_memory(batch_bytes: int, *, workers: int) -> None:
    """Raises InvalidOption where so many processes have no room for their batches."""
    free = _free_bytes()
    if free is None or _needed_bytes(batch_bytes, workers=workers) <= free:
        return
    fitting = [fewer for fewer in range(1, workers) if _needed_bytes(batch_bytes, workers=fewer) <= free]
    fewer = f"`device.workers = {fitting[-1]}` or " if fitting else ""
    raise InvalidOption(
        f"{SHARED_MEMORY}: has {format_bytes(free)} free, but {workers} loader processes hand over batches of "
        f"{format_bytes(batch_bytes)} there, up to {format_bytes(_needed_bytes(batch_bytes, workers=workers))} at a "
        f"time, and would hang. Say {fewer}`device.workers = 0`, make batches smaller, or make it larger (docker run "
        f"--shm-size=8g)."
    )


def _needed_bytes(batch_bytes: int, *, workers: int) -> int:
    """Of all processes of a run that share the machine."""
    return (workers * PREFETCHED + IN_HAND) * batch_bytes * num_local_ranks()


def _free_bytes() -> int | None:
    """None on a system that has no such place."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize
