"""What the samples of a source were when this store's dump first read them: none may change before it is finished."""

# Shape letters: N samples.

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softlab.errors import StoreMismatch
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.loading.alignment import changed_sample
from softlab.sources.source import Source
from softlab.store.reader import Store

REHASHED_ON_RESUME = 64


class Contents:
    """Content hashes by source index, as far as they are known."""

    def __init__(self, out: Path, source: Source, *, like: Store | None = None) -> None:
        """`like` is a store of the same samples, which must be what they were for that one."""
        self._out, self._source, self._like = out, source, like
        self._hashes_N16 = np.zeros((len(source), CONTENT_HASH_BYTES), dtype=np.uint8)
        self._is_known_N = np.zeros(len(source), dtype=bool)
        if like is not None:
            self.learn(0, like.read_samples().content_hashes)

    def learn(self, start: int, hashes: Sequence[bytes]) -> None:
        """Of samples from `start` on. Raises StoreMismatch for one that was different before."""
        found = ContentHashes(hashes).bytes_N16
        here = slice(start, start + len(found))
        differs = self._is_known_N[here] & (self._hashes_N16[here] != found).any(axis=1)
        if differs.any():
            raise self._changed(start + int(differs.argmax()))
        self._hashes_N16[here], self._is_known_N[here] = found, True

    def check_some(self) -> None:
        """Hash some of the samples that an earlier run has read anew. Raises StoreMismatch for one that has changed."""
        known = np.flatnonzero(self._is_known_N)
        count = min(REHASHED_ON_RESUME, len(known))
        for index in np.random.default_rng().choice(known, count, replace=False).tolist():
            if self._source.read(index).content_hash != self._hashes_N16[index].tobytes():
                raise self._changed(index)

    def hashes(self) -> ContentHashes:
        """Of all samples."""
        assert self._is_known_N.all(), "every sample has been read"
        return ContentHashes.from_bytes(self._hashes_N16)

    def _changed(self, index: int) -> StoreMismatch:
        if self._like is not None:
            return changed_sample(self._source, self._like, index)
        return StoreMismatch(
            f"{self._out}: sample {self._source.keys[index]!r} has changed since this dump was begun. "
            f"Restore the data, or choose another --out."
        )
