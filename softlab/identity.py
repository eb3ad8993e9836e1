"""Content hashes and fingerprints: what decides whether two things may be used together.

All of them are BLAKE3. A content hash is 16 bytes, because a store keeps one a sample; a fingerprint is 64 hex digits.
"""

# Shape letters: N samples.

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from mmap import mmap
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

CONTENT_HASH_BYTES = 16
LENGTH_BYTES = 8
"""Of the number that stands before what is hashed."""

BLOCK_HASHES = 1 << 16
"""Hashed, or made Python bytes of, at a time."""


class ContentHashes(Sequence[bytes]):
    """One a sample, all in one piece of memory; equal to a list or tuple of the same ones. Slices share their memory.

    Raises ValueError for one that has not 16 bytes.
    """

    def __init__(self, hashes: Iterable[bytes]) -> None:
        self.bytes_N16: NDArray[np.uint8] = hashes.bytes_N16 if isinstance(hashes, ContentHashes) else _gather(hashes)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | NDArray[np.uint8]) -> "ContentHashes":
        """Of hashes one behind the other, which are not copied."""
        found = cls.__new__(cls)
        found.bytes_N16 = np.frombuffer(data, dtype=np.uint8).reshape(-1, CONTENT_HASH_BYTES)
        return found

    def __len__(self) -> int:
        return len(self.bytes_N16)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> "ContentHashes": ...

    def __getitem__(self, index: int | slice) -> "bytes | ContentHashes":
        chosen = self.bytes_N16[index]
        return ContentHashes.from_bytes(np.ascontiguousarray(chosen)) if isinstance(index, slice) else chosen.tobytes()

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self), BLOCK_HASHES):
            block = self.bytes_N16[start : start + BLOCK_HASHES].tobytes()
            yield from (block[at : at + CONTENT_HASH_BYTES] for at in range(0, len(block), CONTENT_HASH_BYTES))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | tuple):
            return len(self) == len(other) and all(ours == theirs for ours, theirs in zip(self, other, strict=True))
        return np.array_equal(self.bytes_N16, other.bytes_N16) if isinstance(other, ContentHashes) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


def content_hash(data: bytes) -> bytes:
    """The 16 bytes that stand for one sample's raw input: BLAKE3, truncated."""
    return blake3(data).digest(CONTENT_HASH_BYTES)


def fields_hash(fields: Mapping[str, bytes | str | tuple[str, ...] | NDArray[Any]]) -> bytes:
    """The 16 bytes that stand for all fields of one sample, which are hashed in their order.

    A single field of bytes has the content hash of these bytes. Anything else is hashed as name, kind and value of each
    field: a string as UTF-8, several strings each behind its length, numbers as little-endian bytes whose kind tells
    their data type and shape.
    """
    values = list(fields.values())
    if len(values) == 1 and isinstance(values[0], bytes):
        return content_hash(values[0])
    parts = (part for name, value in fields.items() for part in (name.encode(), *_kind_and_bytes(value)))
    return _hasher(b"fields", parts).digest(CONTENT_HASH_BYTES)


def digest_of(*parts: bytes | memoryview | mmap) -> str:
    """BLAKE3 of a file's bytes, in one or more parts, 64 hex digits: what a manifest records for every file of a
    store."""
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


def keyed_digest_of(data: bytes | memoryview, *, key: str) -> str:
    """BLAKE3 of some bytes under a key: whoever doesn't know the key's text can't make it, 64 hex digits."""
    return blake3(data, key=blake3(key.encode()).digest()).hexdigest()


@runtime_checkable
class PackedTexts(Protocol):
    """Texts that lie one behind the other in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice) -> "PackedTexts": ...

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Their UTF-8, and how many bytes each of N has."""


def keys_fingerprint(keys: Sequence[str]) -> str:
    """Of the samples' keys in their order, without their contents: cheap, and known before the first sample is read."""
    hasher = _hasher(b"keys", ())
    for texts, bytes_B in _packed(keys):
        hasher.update(_behind_lengths(texts, bytes_B).data)
    return hasher.hexdigest()


def source_fingerprint(keys: Sequence[str], content_hashes: Sequence[bytes]) -> str:
    """Of a whole data set: how many samples, their keys in order, and the content hash of each."""
    fingerprint = SourceFingerprint()
    fingerprint.add(keys, content_hashes)
    return fingerprint.hexdigest()


class SourceFingerprint:
    """The same of samples that come some at a time, in their order."""

    def __init__(self) -> None:
        self._hasher = _hasher(b"source", ())

    def add(self, keys: Sequence[str], content_hashes: Sequence[bytes]) -> None:
        """The next ones."""
        hashes_N16, start = ContentHashes(content_hashes).bytes_N16, 0
        if len(keys) != len(hashes_N16):
            raise ValueError(f"{len(keys):,} keys and {len(hashes_N16):,} content hashes")
        for texts, bytes_B in _packed(keys):
            hashes_B16 = hashes_N16[start : start + len(bytes_B)]
            self._hasher.update(_behind_lengths(texts, bytes_B, hashes_B16).data)
            start += len(bytes_B)

    def hexdigest(self) -> str:
        """Of all so far."""
        return self._hasher.hexdigest()


def label_space_fingerprint(num_classes: int, class_names: Sequence[str] | None) -> str:
    """Of what a class id means: the number of classes and, where known, their names in order."""
    return _fingerprint(b"label space", [str(num_classes).encode(), *(name.encode() for name in class_names or ())])


def _gather(hashes: Iterable[bytes]) -> NDArray[np.uint8]:
    held = list(hashes)
    wrong = next((each for each in held if len(each) != CONTENT_HASH_BYTES), None)
    if wrong is not None:
        raise ValueError(f"a content hash has {CONTENT_HASH_BYTES} bytes, not {len(wrong)}")
    return np.frombuffer(b"".join(held), dtype=np.uint8).reshape(-1, CONTENT_HASH_BYTES)


def _kind_and_bytes(value: bytes | str | tuple[str, ...] | NDArray[Any]) -> tuple[bytes, bytes]:
    if isinstance(value, bytes):
        return b"bytes", value
    if isinstance(value, str):
        return b"str", value.encode()
    if isinstance(value, tuple):
        return b"strs", b"".join(struct.pack("<q", len(text)) + text for text in (each.encode() for each in value))
    numbers = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
    return f"{numbers.dtype.str.replace('|', '<')}{list(numbers.shape)}".encode(), numbers.tobytes()


def _fingerprint(purpose: bytes, parts: Iterable[bytes]) -> str:
    return _hasher(purpose, parts).hexdigest()


def _packed(texts: Sequence[str]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """As `PackedTexts.packed`, some at a time."""
    if isinstance(texts, PackedTexts):
        for start in range(0, len(texts), BLOCK_HASHES):
            yield texts[start : start + BLOCK_HASHES].packed()
        return
    rest = iter(texts)
    while encoded := [text.encode() for text in islice(rest, BLOCK_HASHES)]:
        yield np.frombuffer(b"".join(encoded), dtype=np.uint8), np.array([len(text) for text in encoded])


def _behind_lengths(
    texts: NDArray[np.uint8], bytes_B: NDArray[np.int64], hashes_B16: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """What `_hasher` hashes of B texts, and of a content hash behind each of them. Made of all at once, as to hash one
    after the other took a microsecond for each."""
    hash_bytes = 0 if hashes_B16 is None else LENGTH_BYTES + CONTENT_HASH_BYTES
    ends_B = np.cumsum(bytes_B + LENGTH_BYTES + hash_bytes)
    joined = np.empty(int(ends_B[-1]), dtype=np.uint8)
    is_text = np.ones(len(joined), dtype=bool)
    words: list[tuple[NDArray[np.int64], Any]] = [(ends_B - hash_bytes - bytes_B - LENGTH_BYTES, bytes_B)]
    if hashes_B16 is not None:
        halves_B2 = np.ascontiguousarray(hashes_B16).view(np.uint64)
        words += [
            (ends_B - hash_bytes, CONTENT_HASH_BYTES),
            (ends_B - 16, halves_B2[:, 0]),
            (ends_B - 8, halves_B2[:, 1]),
        ]
    for places_B, values_B in words:
        _words_at_each_byte(joined)[places_B] = values_B
        _words_at_each_byte(is_text)[places_B] = 0
    joined[is_text] = texts
    return joined


def _words_at_each_byte(array: NDArray[Any]) -> NDArray[np.uint64]:
    """Of 8 bytes, one beginning at each."""
    return np.ndarray(len(array) - LENGTH_BYTES + 1, dtype="<u8", buffer=array.data, strides=(1,))


def _hasher(purpose: bytes, parts: Iterable[bytes]) -> blake3:
    """Every part goes in behind its length, so that no two lists of parts have the same bytes."""
    hasher = blake3()
    for part in chain((purpose,), parts):
        hasher.update(len(part).to_bytes(LENGTH_BYTES, "little") + part)
    return hasher
