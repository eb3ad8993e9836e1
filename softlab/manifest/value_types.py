"""What every part of a manifest is, and what a value in it may be."""

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=1 << 48)]
Positive = Annotated[int, Meta(ge=1, le=1 << 48)]
Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
FileDigest = Annotated[str, Meta(min_length=64, max_length=64)]
"""Hex digits, which `find_contradiction` checks for all files at once: a pattern for each took half of the time to
open a store of 100,000 shards."""

Temperature = Annotated[float, Meta(gt=0, le=1e6)]
Seed = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Alpha = Annotated[float, Meta(gt=0, le=1000)]
OutputName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
FieldName = Annotated[
    str,
    Meta(pattern=r"^((labels|features)|outputs/[A-Za-z0-9_-]{1,64}(/(samples|entries))?)/[A-Za-z0-9_-]{1,64}\Z"),
]
"""`outputs/NAME/class_ids`, and where rows have entries `outputs/NAME/entries/class_ids`; in stores of format 1
`labels/class_ids` and `features/NAME`."""

StoredPath = Annotated[str, Meta(min_length=1, max_length=512)]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, and strict about its keys."""
