"""What a catalogue's page shows of a store beside its version record: what its labels and features weigh, and how the
teacher took its samples."""

from typing import Any, Literal

import msgspec

from softlab.manifest import Manifest
from softlab.manifest.value_types import Count, Fingerprint, Record

MAX_CLASS_NAMES = 20


class About(Record, frozen=True, kw_only=True):
    """What `versions/3.about.json` holds."""

    format: Literal["softlab-about"] = "softlab-about"
    format_version: Literal[1] = 1
    digest: Fingerprint
    """Of the store."""

    label_bytes: Count
    """Of all outputs of kind `classes`."""

    value_bytes: Count
    """Of features and other values."""

    modality: str
    input: dict[str, Any]
    """The teacher's, such as size and normalisation."""

    chosen_from: Count | None
    """How many samples the teacher saw, where the store has some of them only."""

    class_names: tuple[str, ...]
    """The first ones; none where they have no names."""


def describe_store(manifest: Manifest, *, digest: str) -> About:
    """Of a finished store."""
    used, names = manifest.inputs[0], manifest.classes[0].label_space.class_names if manifest.classes else None
    return About(
        digest=digest,
        label_bytes=manifest.bytes_of(manifest.classes),
        value_bytes=manifest.bytes_of(manifest.values),
        modality=used.modality,
        input=used.options,
        chosen_from=manifest.source.chosen_from,
        class_names=(names or ())[:MAX_CLASS_NAMES],
    )


def encode_about(about: About) -> bytes:
    return msgspec.json.encode(about) + b"\n"
