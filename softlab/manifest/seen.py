"""What the teacher saw, as a manifest tells it: the samples, how they became its input, and which views of them."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from softlab.identity import digest_of
from softlab.manifest.value_types import Alpha, Count, Fingerprint, Positive, Record, Seed, Share


class InputRecord(Record, frozen=True, kw_only=True):
    """How a field of a sample became the teacher's input."""

    field: str
    modality: str
    options: dict[str, Any]
    """The modality's own, such as size and normalisation of images."""

    decode: dict[str, Any] | UnsetType = UNSET
    """How the field was decoded, where the modality has a choice; a store from before says nothing."""


class SkippedRecord(Record, frozen=True, kw_only=True):
    key: str
    reason: str


class SourceRecord(Record, frozen=True, kw_only=True):
    name: str
    num_samples: Positive
    keys_fingerprint: Fingerprint
    skipped: tuple[SkippedRecord, ...]
    """Samples left out because they could not be read; they have no index."""

    chosen_from: Positive | None = None
    """How many samples there were when the teacher saw them, where this store was pulled with some of them only.
    `samples.parquet` then says which number each of them had: their views are drawn by it."""


class TransformRecord(Record, frozen=True, kw_only=True):
    """One transform of a view's random part, with every argument that it was built with."""

    name: str
    arguments: dict[str, Any]


class MixingRecord(Record, frozen=True, kw_only=True):
    """How views are mixed with those of other samples."""

    mixup: Alpha | None
    cutmix: Alpha | None
    cutmix_share: Share
    share: Share


def views_fingerprint(*, seed: int, transforms: Sequence[TransformRecord], mixing: MixingRecord | None) -> Fingerprint:
    """Of everything that decides what view v of sample n is."""
    return digest_of(msgspec.json.encode([seed, transforms, mixing], order="deterministic"))


class ViewsRecord(Record, frozen=True, kw_only=True):
    """What the views are; by default the samples as they are."""

    num_views: Positive
    seed: Seed = 0
    transforms: Annotated[tuple[TransformRecord, ...], Meta(max_length=64)] = ()
    """The random part, in order."""

    mixing: MixingRecord | None = None
    fingerprint: Fingerprint = views_fingerprint(seed=0, transforms=(), mixing=None)
    digest_every: Count = 0
    """Of one view in so many the digest of its pixels is kept, after the random part; of none for 0."""

    first: Count = 0
    """Which view of the recipe the store's view 0 is: not the first one where the store was pulled without it."""
