"""The hash of a file that only grows, at no more cost than what was added since it was last asked for."""

import os
from pathlib import Path

from blake3 import blake3


class GrowingFile:
    """A file at whose end lines are added. Its bytes must not change once they were hashed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hasher = blake3()
        self.num_hashed = 0
        """Bytes that the last hash was of."""

    def digest_until(self, count: int) -> str:
        """BLAKE3 of the first `count` bytes, or of fewer where there are no more. Raises OSError."""
        if count < self.num_hashed:  # it was cut off since
            self._hasher, self.num_hashed = blake3(), 0
        added = self._read_until(count)
        self._hasher.update(added)
        self.num_hashed += len(added)
        return self._hasher.hexdigest()

    def _read_until(self, count: int) -> bytes:
        """The bytes that are not hashed yet. A count from a damaged record may be larger than the memory."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(self.num_hashed)
                return file.read(max(min(count, size) - self.num_hashed, 0))
        except FileNotFoundError:
            return b""
