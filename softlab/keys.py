"""Keys of samples in one piece of memory.

A Python list of them takes some 60 bytes a sample beside their text, and a forked worker copies every page of it that
it looks at, because looking at an object changes its reference count.
"""

# Shape letters: N keys, M keys that are looked up.

from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from softlab.errors import InvalidOption

BLOCK_KEYS = 1 << 16
"""Made Python strings of at a time."""


class Keys(Sequence[str]):
    """Some strings; equal to a list or tuple of the same ones. Slices share their memory."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._array: Any = keys._array if isinstance(keys, Keys) else _join(_gather(keys))

    @classmethod
    def from_arrow(cls, strings: Any) -> "Keys":
        """Of an Arrow array of strings, which may have several chunks. Raises ValueError where one is null, or for an
        array of something else."""
        if strings.null_count:
            raise ValueError(f"{strings.null_count:,} of {len(strings):,} keys are null")
        strings = strings.cast(pa.large_string())
        return _holding(strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings)

    @classmethod
    def join(cls, parts: Iterable["Keys"]) -> "Keys":
        """All keys of some parts, in their order; each part may go when the next one is made."""
        return _holding(_join(part._array for part in parts))

    def to_arrow(self) -> Any:
        """One Arrow array of type large_string."""
        return self._array

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Their UTF-8, one behind the other, and how many bytes each of N has, int64 [N]."""
        _, offsets, data = self._array.buffers()
        bounds = np.frombuffer(offsets, dtype=np.int64)[self._array.offset : self._array.offset + len(self) + 1]
        text = np.frombuffer(b"" if data is None else data, dtype=np.uint8)
        return text[bounds[0] : bounds[-1]], np.diff(bounds)

    def take(self, places_M: NDArray[np.int64]) -> "Keys":
        """The keys at some places."""
        return _holding(self._array.take(pa.array(places_M)))

    def find(self, keys: "Keys") -> NDArray[np.int64]:
        """Where each of M other keys stands among these, int64 [M]; -1 where it doesn't."""
        import pyarrow.compute as pc  # few commands look keys up, and it takes a tenth of what starting one does

        found = pc.index_in(keys._array, value_set=self._array).fill_null(-1)
        return np.asarray(found, dtype=np.int64)

    def find_in_any_form(self, keys: "Keys") -> NDArray[np.int64]:
        """The same, and a key that isn't there also in another Unicode form, as files have that came from a Mac."""
        import pyarrow.compute as pc  # as in `find`

        places_M = self.find(keys)
        if (places_M < 0).any() and not pc.all(pc.string_is_ascii(keys._array)).as_py():
            composed = pc.utf8_normalize(self._array, form="NFC")
            is_one = len(pc.unique(composed)) == len(composed)
            found_M = _holding(composed).find(_holding(pc.utf8_normalize(keys._array, form="NFC")))
            return np.where((places_M < 0) & is_one, found_M, places_M)
        return places_M

    def __len__(self) -> int:
        return len(self._array)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "Keys": ...

    def __getitem__(self, index: int | slice) -> "str | Keys":
        if not isinstance(index, slice):
            return self._array[index].as_py()  # type: ignore[no-any-return]
        start, stop, step = index.indices(len(self))
        if step != 1:
            return self.take(np.arange(start, stop, step))
        return _holding(self._array.slice(start, max(stop - start, 0)))

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK_KEYS):
            yield from self._array.slice(start, BLOCK_KEYS).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Keys):
            return bool(self._array.equals(other._array))
        if isinstance(other, list | tuple):
            return len(self) == len(other) and all(ours == theirs for ours, theirs in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self):,} keys: {shown}{', ...' if len(self) > 3 else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """A slice goes without the keys around it."""
        return Keys.from_arrow, (pa.concat_arrays([self._array]),)


class KeyIndex:
    """Finds a few of many keys again and again: `Keys.find` looks at all of them each time. Takes 16 bytes a key."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        hashes_N = _hashes(keys)
        self._places_N = np.argsort(hashes_N, kind="stable")
        self._hashes_N = hashes_N[self._places_N]

    def find(self, wanted: Sequence[str]) -> NDArray[np.int64]:
        """Where each of M keys stands, int64 [M]; -1 where it doesn't."""
        if not len(self._keys):
            return np.full(len(wanted), -1)
        ranks_M = np.searchsorted(self._hashes_N, _hashes(wanted)).clip(max=len(self._hashes_N) - 1)
        places_M = self._places_N[ranks_M]
        found = self._keys.take(places_M)
        return np.where([ours == theirs for ours, theirs in zip(wanted, found, strict=True)], places_M, -1)


def read_keys(path: Path) -> Keys:
    """Those in a text file, one a line; blank lines are none. Raises InvalidOption for a file without keys."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidOption(
            f"{path}: can't read these keys: {reason}. Give a text file with one key a line."
        ) from error
    keys = Keys(line for line in (line.removesuffix("\r") for line in lines) if line.strip())
    if not keys:
        raise InvalidOption(f"{path}: holds no keys. Give a text file with one key a line.")
    return keys


def find_all(wanted: Keys, keys: Keys, *, where: str) -> NDArray[np.int64]:
    """Where the wanted keys stand among others, ascending, each once. Raises InvalidOption where some don't."""
    places_M = keys.find(wanted)
    unknown = np.flatnonzero(places_M < 0)
    if len(unknown):
        raise InvalidOption(
            f"{where}: {len(unknown):,} of {len(wanted):,} keys are of no sample, the first of them "
            f"{wanted[int(unknown[0])]!r}. Correct the file of keys."
        )
    return np.unique(places_M)


def _hashes(keys: Sequence[str]) -> NDArray[np.uint64]:
    """64 bits of each, of which no two are alike among fewer than some hundred million keys."""
    joined = b"".join(blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(joined, dtype=np.uint64)


def _gather(keys: Iterable[str]) -> Iterator[Any]:
    rest = iter(keys)
    while block := list(islice(rest, BLOCK_KEYS)):
        yield pa.array(block, pa.large_string())


def _join(arrays: Iterable[Any]) -> Any:
    """Into buffers that grow in place: to concatenate whole arrays takes their memory twice."""
    text, ends = bytearray(), array("q", [0])
    for each in arrays:
        _, offsets, data = each.buffers()
        bounds = np.frombuffer(offsets, dtype=np.int64)[each.offset : each.offset + len(each) + 1]
        ends.frombytes((bounds[1:] - bounds[0] + len(text)).tobytes())
        text += memoryview(data)[bounds[0] : bounds[-1]] if len(each) and data is not None else b""
    return pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))


def _holding(array: Any) -> Keys:
    keys = Keys.__new__(Keys)
    keys._array = array
    return keys
