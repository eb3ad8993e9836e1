"""What is said about a published store beside its manifest: its name, its version, its terms, and its tags."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from softlab.manifest.outputs import SampledRecord
from softlab.manifest.records import Manifest
from softlab.manifest.value_types import Count, Fingerprint, Positive, Record, Share

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?\Z")]
Tag = Annotated[str, Meta(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?\Z")]
VersionNumber = Annotated[int, Meta(ge=1, le=999_999_999)]
Text = Annotated[str, Meta(max_length=4096)]
Moment = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
WriterId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""Drawn for each publication, so that a record that is read back tells whose it is."""

MAX_RECORD_BYTES = 1 << 20
"""Of a version record or a tag."""

MAX_CATALOG_BYTES = 256 << 20


class Summary(Record, frozen=True, kw_only=True):
    """What a catalogue shows of a store without reading its manifest."""

    source: Text
    source_fingerprint: Fingerprint
    keys_fingerprint: Fingerprint
    num_samples: Positive
    teacher: Text
    teacher_fingerprint: Fingerprint
    accuracy: Share | None
    """Of the teacher, on the source's hard targets."""

    num_classes: Positive | None
    """With `head` and `k` of the first output of kind `classes`; None where a store has none."""

    head: Literal["softmax", "sigmoid"] | None
    k: Positive | None
    resolution: Positive | UnsetType = UNSET
    """Where that output is a sample of its classes: those of probability 1 / resolution or more are stored exactly, and
    a row has up to `k` entries. A record says nothing where the `k` largest logits are kept."""

    temperatures: tuple[float, ...]
    captured_mass: tuple[float, ...]
    """Mean probability of the kept classes, one a temperature."""

    num_views: Positive
    views_fingerprint: Fingerprint
    features: tuple[str, ...]
    coding: str
    storage: str
    num_files: Positive
    num_bytes: Count
    """Of all files that the manifest names."""

    parent: Fingerprint | None

    @property
    def kept_in_words(self) -> str:
        """`16`, `sampled at 1/16`, or `-` where a store has no classes."""
        if self.resolution is not UNSET:
            return f"sampled at 1/{self.resolution}"
        return "-" if self.k is None else f"{self.k:,}"


class VersionRecord(Record, frozen=True, kw_only=True):
    """One published version: immutable, and created last. A signature covers it together with the manifest."""

    format: Literal["softlab-version"] = "softlab-version"
    format_version: Literal[1] = 1
    name: Name
    version: VersionNumber
    digest: Fingerprint
    """Of the store: the BLAKE3 of its manifest, hence of every byte."""

    manifest_bytes: Positive
    published: Moment
    writer: WriterId
    licence: Text
    """Of the soft labels: an SPDX identifier, or words."""

    terms: Text
    """What the teacher's own licence says about its outputs; empty where it says nothing."""

    summary: Summary


class TagRecord(Record, frozen=True, kw_only=True):
    """A name that moves from version to version, such as `latest`."""

    format: Literal["softlab-tag"] = "softlab-tag"
    format_version: Literal[1] = 1
    name: Name
    tag: Tag
    version: VersionNumber
    moved: Moment
    writer: WriterId


class CatalogRecord(Record, frozen=True, kw_only=True):
    """What is published below a root, for those who can't list it; made again from the records at each publication."""

    format: Literal["softlab-catalog"] = "softlab-catalog"
    format_version: Literal[1] = 1
    updated: Moment
    writer: WriterId
    versions: tuple[VersionRecord, ...]
    """By name, then number."""

    tags: tuple[TagRecord, ...]


def summarise(manifest: Manifest) -> Summary:
    """Of a finished store."""
    files, labels = manifest.files, manifest.classes[0] if manifest.classes else None
    statistics = manifest.statistics[labels.name] if labels else None
    return Summary(
        source=manifest.source.name,
        source_fingerprint=manifest.source_fingerprint,
        keys_fingerprint=manifest.source.keys_fingerprint,
        num_samples=manifest.source.num_samples,
        teacher=manifest.teacher.model,
        teacher_fingerprint=manifest.teacher.weights_fingerprint,
        accuracy=statistics.accuracy if statistics else None,
        num_classes=labels.label_space.num_classes if labels else None,
        head=labels.head if labels else None,
        k=labels.selection.k if labels else None,
        resolution=labels.selection.resolution if labels and isinstance(labels.selection, SampledRecord) else UNSET,
        temperatures=labels.selection.temperatures if labels else (),
        captured_mass=statistics.mean_captured_mass if statistics else (),
        num_views=manifest.views.num_views,
        views_fingerprint=manifest.views.fingerprint,
        features=tuple(output.name for output in manifest.values),
        coding=labels.coding.logits if labels else "",
        storage=manifest.storage.format,
        num_files=len(files),
        num_bytes=sum(file.bytes for file in files),
        parent=manifest.parent,
    )
