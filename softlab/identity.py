"""Content hashes and fingerprints: what decides whether two things may be used together.

All of them are BLAKE3. A content hash is 16 bytes, because a store keeps one a sample; a fingerprint is 64 hex digits.
"""

from collections.abc import Iterable, Sequence

from blake3 import blake3

CONTENT_HASH_BYTES = 16


def content_hash(data: bytes) -> bytes:
    """The 16 bytes that stand for one sample's raw input: BLAKE3, truncated."""
    return blake3(data).digest(CONTENT_HASH_BYTES)


def digest_of(data: bytes | memoryview) -> str:
    """BLAKE3 of a file's bytes, 64 hex digits: what a manifest records for every file of a store."""
    return blake3(data).hexdigest()


def keys_fingerprint(keys: Sequence[str]) -> str:
    """Of the samples' keys in their order, without their contents: cheap, and known before the first sample is read."""
    return _fingerprint(b"keys", (key.encode() for key in keys))


def source_fingerprint(keys: Sequence[str], content_hashes: Sequence[bytes]) -> str:
    """Of a whole data set: how many samples, their keys in order, and the content hash of each."""
    parts = (part for key, content in zip(keys, content_hashes, strict=True) for part in (key.encode(), content))
    return _fingerprint(b"source", parts)


def label_space_fingerprint(num_classes: int, class_names: Sequence[str] | None) -> str:
    """Of what a class id means: the number of classes and, where known, their names in order."""
    return _fingerprint(b"label space", [str(num_classes).encode(), *(name.encode() for name in class_names or ())])


def _fingerprint(purpose: bytes, parts: Iterable[bytes]) -> str:
    """Every part goes in behind its length, so that no two lists of parts have the same bytes."""
    hasher = blake3()
    for part in (purpose, *parts):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()
