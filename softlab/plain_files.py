"""Files that are read and locked where others may write: never through a link, never from a pipe or a device, and never
more of them than is said.

A folder that was unpacked from an archive, or that other users can write, may hold any of those under the name of a
file of softlab's.
"""

import errno
import os
import stat
from pathlib import Path

MAX_RECORD_BYTES = 64 << 20
"""Of a file that softlab wrote to keep track of something: a plan, a marker, a record, a card."""

MAX_TABLE_BYTES = 4 << 30
"""Of a table of samples."""


def open_plain(path: Path, flags: int, mode: int = 0o666) -> int:
    """A descriptor of a file that is no link, pipe, device or folder. Raises OSError, of ELOOP for what is one of
    those."""
    try:  # a pipe would be waited for
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise not_plain(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_plain(path)
    return descriptor


def read_plain(path: Path, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
    """All bytes of such a file. Raises OSError as `open_plain`, and of EFBIG for a larger one."""
    with open(open_plain(path, os.O_RDONLY), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(errno.EFBIG, f"has {size:,} bytes, where at most {max_bytes:,} are read", str(path))
        return file.read(size)


def read_if_there(path: Path, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes | None:
    """The same; None if there is no such file."""
    try:
        return read_plain(path, max_bytes=max_bytes)
    except FileNotFoundError:
        return None


def not_plain(path: Path) -> OSError:
    """Of what is found in a file's place."""
    return OSError(errno.ELOOP, "is a link or no plain file; remove it", str(path))
