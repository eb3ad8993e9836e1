"""What a file of predictions says it decodes to, compared with the memory of this machine before any of it is taken."""

import mmap
import os
from pathlib import Path
from typing import Any

from softlab.amounts import format_bytes
from softlab.parquet_pages import claimed_bytes


def check_room(num_bytes: int) -> None:
    """Raises ValueError where so much isn't there."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > most:
        raise ValueError(f"takes {format_bytes(num_bytes)}, and this machine has {format_bytes(most)}")


def check_parquet(file: Path, metadata: Any) -> None:
    """Raises ValueError for pages that aren't there, or that together take more memory than there is."""
    if not metadata.num_rows:
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_room(claimed_bytes(data, metadata))
