"""Take files out of the system's memory, so that the next read of them comes from the disk."""

import os
from collections.abc import Iterable
from pathlib import Path

CAN_FORGET = hasattr(os, "posix_fadvise")
"""Whether this system can be asked to; macOS can't."""


def forget_pages(paths: Iterable[Path]) -> None:
    """Of files that are not being written. A request: pages that another process has mapped stay. Nothing happens
    where the system can't be asked."""
    if not CAN_FORGET:
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
