"""Where keys stand among those of a large store, which go by a block at a time and are never held together.

The keys that are looked for are hashed to 64 bits each and sorted by hash, on the disk where they are very many; each
block of the store's is hashed too, and merged with them. Equal hashes are only candidates: the keys themselves decide.
"""

# Shape letters: M keys that are looked for, B keys of a block, C candidates.

import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlab.disk import disk_errors
from softlab.keys import Keys

BLOCK_KEYS = 1 << 18
"""Hashed at a time."""

IN_MEMORY_KEYS = 1 << 24
"""Of more keys, what is sorted lies in a temporary file: 16 bytes a key."""

BUCKETS = 256
"""By the first bits of a hash; each is sorted in memory where all aren't."""

WRITTEN_BYTES = 1 << 20
"""Of such a file at a time."""

SLOTS = 16
"""Bits a key, of which most tell that a hash is none of those that are looked for."""

WORD = 8
Words = NDArray[np.uint64]


def find_among(blocks: Callable[[], Iterable[Keys]], wanted: Keys, *, folder: Path | None = None) -> NDArray[np.int64]:
    """As `Keys.find_in_any_form` of all blocks together: where each of M keys stands, int64 [M], -1 where it doesn't.
    `blocks` gives them anew each time that it is called; temporary files lie in `folder`, by default the system's for
    such. Raises StoreWriteFailed where there is no room for them."""
    import pyarrow.compute as pc  # as in `softlab.keys`

    with tempfile.TemporaryDirectory(dir=folder, prefix="softlab-keys-") as name:
        places_M = _find(blocks(), wanted, Path(name))
        missing = np.flatnonzero(places_M < 0)
        if not len(missing) or pc.all(pc.string_is_ascii(wanted.to_arrow())).as_py():
            return places_M
        composed = Keys.from_arrow(pc.utf8_normalize(wanted.take(missing).to_arrow(), form="NFC"))
        places_M[missing] = _find(map(_composed, blocks()), composed, Path(name), only_once=True)
        return places_M


def _find(blocks: Iterable[Keys], wanted: Keys, folder: Path, *, only_once: bool = False) -> NDArray[np.int64]:
    """Where several are equal, the first one; with `only_once` none of them."""
    index, first = SortedHashes(wanted, folder), 0
    places_M = np.full(len(wanted), -1, dtype=np.int64)
    is_again_M = np.zeros(len(wanted), dtype=bool)
    for block in blocks:
        for start in range(0, len(block), BLOCK_KEYS):
            part = block[start : start + BLOCK_KEYS]
            wanted_C, part_C = index.matches(part)
            is_known_C = places_M[wanted_C] >= 0
            is_again_M[wanted_C[is_known_C]] = True
            wanted_C, part_C = wanted_C[~is_known_C], part_C[~is_known_C]
            found, firsts, counts = np.unique(wanted_C, return_index=True, return_counts=True)
            places_M[found] = first + part_C[firsts]
            is_again_M[found[counts > 1]] = True
            first += len(part)
    return np.where(is_again_M, -1, places_M) if only_once else places_M


class SortedHashes:
    """Of some keys, to be merged with others."""

    def __init__(self, keys: Keys, folder: Path) -> None:
        self._keys = keys
        is_large = len(keys) > IN_MEMORY_KEYS
        self._hashes_M: Words = _room(folder, len(keys), np.uint64, is_mapped=is_large)
        self._places_M: NDArray[np.int64] = _room(folder, len(keys), np.int64, is_mapped=is_large)
        self._slots = np.zeros(1 << max((SLOTS * len(keys)).bit_length() - 3, 0), dtype=np.uint8)
        self._shift = np.uint64(64 - 3 - (len(self._slots).bit_length() - 1))
        self._sort(BUCKETS if is_large else 1)

    def matches(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of equal keys: places of ours, and of these, which ascend."""
        hashes_B = hashes_of(keys)
        here_B = np.flatnonzero(self._may_have(hashes_B))
        hashes_B = hashes_B[here_B]
        left_B, right_B = (np.searchsorted(self._hashes_M, hashes_B, side=side) for side in ("left", "right"))
        counts_B = right_B - left_B
        theirs_C = here_B.repeat(counts_B)
        ranks_C = np.arange(len(theirs_C)) - (counts_B.cumsum() - counts_B).repeat(counts_B) + left_B.repeat(counts_B)
        ours_C = np.asarray(self._places_M[ranks_C])
        is_equal_C = _are_equal(self._keys.take(ours_C), keys.take(theirs_C))
        return ours_C[is_equal_C], theirs_C[is_equal_C]

    def _may_have(self, hashes_B: Words) -> NDArray[np.bool_]:
        bytes_B, bits_B = self._slots_of(hashes_B)
        found_B: NDArray[np.bool_] = (self._slots[bytes_B] & bits_B) != 0
        return found_B

    def _slots_of(self, hashes_B: Words) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The byte and the bit of each."""
        slots_B = (hashes_B >> self._shift).astype(np.int64)
        return slots_B >> 3, np.left_shift(np.uint8(1), (slots_B & 7).astype(np.uint8))

    def _sort(self, num_buckets: int) -> None:
        """First into buckets, by their first bits, and then each of these."""
        edges = np.array([number * (1 << 64) // num_buckets for number in range(1, num_buckets)], dtype=np.uint64)
        counts = np.zeros(num_buckets, dtype=np.int64)
        for _, hashes_B in self._blocks():
            counts += np.diff(np.searchsorted(np.sort(hashes_B), edges), prepend=0, append=len(hashes_B))
            bytes_B, bits_B = self._slots_of(hashes_B)
            np.bitwise_or.at(self._slots, bytes_B, bits_B)
        ends = counts.cumsum()
        free = ends - counts
        for first, hashes_B in self._blocks():
            order = hashes_B.argsort(kind="stable")
            hashes_B = hashes_B[order]
            bounds = [0, *np.searchsorted(hashes_B, edges).tolist(), len(hashes_B)]
            for bucket, (start, stop) in enumerate(pairwise(bounds)):
                room = slice(int(free[bucket]), int(free[bucket]) + stop - start)
                self._hashes_M[room], self._places_M[room] = hashes_B[start:stop], first + order[start:stop]
                free[bucket] = room.stop
        for bucket in range(num_buckets):
            room = slice(int(ends[bucket] - counts[bucket]), int(ends[bucket]))
            order = self._hashes_M[room].argsort(kind="stable")
            self._hashes_M[room], self._places_M[room] = self._hashes_M[room][order], self._places_M[room][order]

    def _blocks(self) -> Iterator[tuple[int, Words]]:
        for start in range(0, len(self._keys), BLOCK_KEYS):
            yield start, hashes_of(self._keys[start : start + BLOCK_KEYS])


def hashes_of(keys: Keys) -> Words:
    """64 bits of each key, uint64 [B]: 8 bytes of all of them at a time."""
    text, sizes_B = keys.packed()
    padded = np.zeros(len(text) + WORD, dtype=np.uint8)
    padded[:-WORD] = text
    words = np.ndarray(len(padded) - WORD + 1, dtype="<u8", buffer=padded.data, strides=(1,))  # one at each byte
    starts_B = sizes_B.cumsum() - sizes_B
    hashes_B = _mixed(sizes_B.astype(np.uint64))
    longer = np.flatnonzero(sizes_B)
    for at in range(0, int(sizes_B.max(initial=0)), WORD):
        longer = longer[sizes_B[longer] > at]
        unused = (WORD * (WORD - np.minimum(sizes_B[longer] - at, WORD))).astype(np.uint64)
        here = words[starts_B[longer] + at] & (np.uint64(0xFFFFFFFFFFFFFFFF) >> unused)
        hashes_B[longer] = _mixed(hashes_B[longer] + here * np.uint64(0x9E3779B97F4A7C15))
    return hashes_B


def _mixed(numbers: Words) -> Words:
    """MurmurHash3's last step."""
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return numbers ^ (numbers >> np.uint64(33))


def _composed(block: Keys) -> Keys:
    import pyarrow.compute as pc  # as in `softlab.keys`

    return Keys.from_arrow(pc.utf8_normalize(block.to_arrow(), form="NFC"))


def _are_equal(ours: Keys, theirs: Keys) -> NDArray[np.bool_]:
    import pyarrow.compute as pc  # as in `softlab.keys`

    return np.asarray(pc.equal(ours.to_arrow(), theirs.to_arrow()))


def _room(folder: Path, count: int, dtype: Any, *, is_mapped: bool) -> NDArray[Any]:
    if not is_mapped:
        return np.empty(count, dtype=dtype)
    with disk_errors(folder), tempfile.NamedTemporaryFile(dir=folder) as file:
        size = count * np.dtype(dtype).itemsize
        for start in range(0, size, WRITTEN_BYTES):  # or else a full disk would end the process, and later
            file.write(bytes(min(WRITTEN_BYTES, size - start)))
        file.flush()
        return np.frombuffer(mmap(file.fileno(), size), dtype=dtype)
