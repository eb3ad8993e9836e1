"""The manifest: the immutable description of a store, and the only place that says which files belong to it.

`StorePlan` is what is settled before the first row is written, and what a resumed dump must repeat exactly.
`Manifest` adds what is known at the end. Both are plain JSON, decoded strictly: an unknown key, a wrong type or a path
that leaves the store is an error, and nothing in them is ever imported or executed.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from softlab.errors import NotAStore, UnsupportedStore
from softlab.identity import digest_of
from softlab.shards import MAX_FIELD_BYTES, Dtype, ShardGrid, row_bytes

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 30

Count = Annotated[int, Meta(ge=0, le=1 << 48)]
Positive = Annotated[int, Meta(ge=1, le=1 << 48)]
Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Temperature = Annotated[float, Meta(gt=0, le=1e6)]
FieldName = Annotated[str, Meta(pattern=r"^(labels|features)/[A-Za-z0-9_-]{1,64}\Z")]
StoredPath = Annotated[str, Meta(min_length=1, max_length=512)]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, and strict about its keys."""


class TeacherRecord(Record, frozen=True, kw_only=True):
    model: str
    arguments: dict[str, Any]
    weights_fingerprint: Fingerprint
    num_parameters: Count
    finishing: dict[str, Any]
    """How an image became the teacher's input: size, channels, normalisation."""

    precision: str
    """The dtype of the forward pass: float32, or that of autocast."""


class SkippedRecord(Record, frozen=True, kw_only=True):
    key: str
    reason: str


class SourceRecord(Record, frozen=True, kw_only=True):
    name: str
    num_samples: Positive
    keys_fingerprint: Fingerprint
    skipped: tuple[SkippedRecord, ...]
    """Samples left out because they could not be read; they have no sample number."""


class LabelSpaceRecord(Record, frozen=True, kw_only=True):
    num_classes: Positive
    class_names: tuple[str, ...] | None
    fingerprint: Fingerprint


class ViewsRecord(Record, frozen=True, kw_only=True):
    num_views: Positive


class SelectionRecord(Record, frozen=True, kw_only=True):
    method: Literal["topk"]
    k: Positive
    temperatures: Annotated[tuple[Temperature, ...], Meta(min_length=1, max_length=64)]


class CodingRecord(Record, frozen=True, kw_only=True):
    logits: Literal["float32", "float16", "uint8"]
    gap_step: Annotated[float, Meta(gt=0, le=64)] | None
    """uint8 only: nats for one step of a gap between successive logits."""


class FieldRecord(Record, frozen=True, kw_only=True):
    """One array: what it holds for each row, and how many rows make a chunk."""

    name: FieldName
    dtype: Dtype
    row_shape: Annotated[tuple[Positive, ...], Meta(max_length=4)]
    chunk_rows: Positive

    @property
    def group(self) -> str:
        """What is read together: `labels`, or one feature."""
        return "labels" if self.name.startswith("labels/") else self.name

    @property
    def short_name(self) -> str:
        return self.name.split("/", 1)[1]

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.dtype, self.row_shape)


class StorageRecord(Record, frozen=True, kw_only=True):
    format: Literal["zarr", "parquet"]
    shard_rows: Positive
    fields: tuple[FieldRecord, ...]

    def fields_of(self, group: str) -> tuple[FieldRecord, ...]:
        return tuple(field for field in self.fields if field.group == group)


class FeatureRecord(Record, frozen=True, kw_only=True):
    name: str
    layer: str
    pooling: str


class FileRecord(Record, frozen=True, kw_only=True):
    path: StoredPath
    bytes: Count
    blake3: Fingerprint


class Statistics(Record, frozen=True, kw_only=True):
    """Sums over rows, so that those of shards add up to those of the store."""

    rows: Count
    rows_with_target: Count
    correct: Count
    """Rows whose largest logit is at the hard target."""

    captured_mass: tuple[float, ...]
    """Sum over rows of the kept classes' probability, one value a temperature."""

    clipped_logits: Count
    """Logits that the coding could not hold within its rounding."""

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.rows_with_target if self.rows_with_target else None

    @property
    def mean_captured_mass(self) -> tuple[float, ...]:
        return tuple(total / self.rows for total in self.captured_mass)


class ShardRecord(Record, frozen=True, kw_only=True):
    view: Count
    start: Count
    stop: Positive
    files: tuple[FileRecord, ...]
    statistics: Statistics


class StorePlan(Record, frozen=True, kw_only=True):
    """Everything that is settled before the first row is written."""

    format: Literal["softlab"]
    format_version: Literal[1]
    kind: Literal["soft-labels"]
    softlab_version: str
    libraries: dict[str, str]
    teacher: TeacherRecord
    source: SourceRecord
    label_space: LabelSpaceRecord
    views: ViewsRecord
    selection: SelectionRecord
    coding: CodingRecord
    features: tuple[FeatureRecord, ...]
    storage: StorageRecord
    parent: Fingerprint | None
    """Digest of the store that this one was converted from."""

    @property
    def grid(self) -> ShardGrid:
        return ShardGrid(
            num_views=self.views.num_views,
            num_samples=self.source.num_samples,
            shard_rows=self.storage.shard_rows,
        )


class Manifest(StorePlan, frozen=True, kw_only=True):
    """A finished store."""

    source_fingerprint: Fingerprint
    samples_file: FileRecord
    layout_files: tuple[FileRecord, ...]
    """Files of the format itself (Zarr's metadata), which belong to no shard."""

    shards: tuple[ShardRecord, ...]
    statistics: Statistics

    @property
    def files(self) -> list[FileRecord]:
        """Every file that the manifest vouches for."""
        return [self.samples_file, *self.layout_files, *(file for shard in self.shards for file in shard.files)]


class _Header(Struct):
    format: str
    format_version: int


def encode(record: Record) -> bytes:
    """Canonical JSON: the same record is the same bytes, and so has the same digest."""
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=1) + b"\n"


def decode_manifest(data: bytes, *, where: str) -> tuple[Manifest, str]:
    """A checked manifest and its digest. Raises UnsupportedStore for a newer format, NotAStore for an invalid one."""
    try:
        header = msgspec.json.decode(data, type=_Header)
        if header.format != "softlab":
            raise NotAStore(f"{where}: is a manifest of {header.format!r}, not of softlab. Check the path.")
        if header.format_version != FORMAT_VERSION:
            raise UnsupportedStore(
                f"{where}: format version {header.format_version}, but this softlab reads version {FORMAT_VERSION}. "
                f"Upgrade softlab."
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotAStore(f"{where}: not a valid softlab manifest: {error}. Get the store again.") from error
    problem = _find_contradiction(manifest)
    if problem is not None:
        raise NotAStore(f"{where}: not a valid softlab manifest: {problem}. Get the store again.")
    return manifest, digest_of(data)


def add_up(statistics: Sequence[Statistics]) -> Statistics:
    """Of several shards together; the same to the last bit everywhere, as `sum` of floats is not before Python 3.12."""
    return Statistics(
        rows=sum(each.rows for each in statistics),
        rows_with_target=sum(each.rows_with_target for each in statistics),
        correct=sum(each.correct for each in statistics),
        captured_mass=tuple(
            math.fsum(column) for column in zip(*(each.captured_mass for each in statistics), strict=True)
        ),
        clipped_logits=sum(each.clipped_logits for each in statistics),
    )


def differences(found: dict[str, Any], expected: dict[str, Any], *, prefix: str = "") -> list[str]:
    """`key: found, now expected` for each leaf in which two trees of plain values differ."""
    lines = []
    for key in sorted(found.keys() | expected.keys()):
        ours, theirs = expected.get(key), found.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            lines += differences(theirs, ours, prefix=f"{prefix}{key}.")
        elif ours != theirs:
            lines.append(f"{prefix}{key} was {theirs!r}, is now {ours!r}")
    return lines


def _find_contradiction(manifest: Manifest) -> str | None:
    """What types can't say: safe paths, bounded sizes, shapes that agree, and shards that cover every row once."""
    paths = [file.path for file in manifest.files]
    unsafe = next((path for path in paths if not _is_safe(path)), None)
    if unsafe is not None:
        return f"the path {unsafe!r} is not a plain relative path inside the store"
    if len({path.casefold() for path in paths}) < len(paths):
        return "two files have the same path"
    return _find_wrong_labels(manifest) or _find_wrong_shape(manifest) or _find_wrong_cover(manifest)


def _is_safe(path: str) -> bool:
    """Windows drops dots and spaces at the end of a name, so that these could also make two paths one."""
    return (
        all(name and name[-1] not in ". " for name in path.split("/"))
        and path.isprintable()
        and not set(path) & set('\\:*?"<>|')
    )


def _find_wrong_labels(manifest: Manifest) -> str | None:
    num_classes, selection = manifest.label_space.num_classes, manifest.selection
    coding, storage = manifest.coding, manifest.storage
    if selection.k > num_classes:
        return f"k = {selection.k} of {num_classes} classes"
    class_names = manifest.label_space.class_names
    if class_names is not None and len(class_names) != num_classes:
        return f"{len(class_names)} class names for {num_classes} classes"
    if list(selection.temperatures) != sorted(set(selection.temperatures)):
        return f"the temperatures {selection.temperatures} don't ascend"
    if (coding.logits == "uint8") != (coding.gap_step is not None):
        return f"a gap_step of {coding.gap_step} for {coding.logits} logits"
    k, num_temperatures = (selection.k,), (len(selection.temperatures),)
    expected = [("class_ids", k), ("log_tail", num_temperatures), ("logits", k), ("max_logit", ())]
    labels = storage.fields_of("labels")
    found = sorted((field.short_name, field.row_shape) for field in labels)
    if found != expected:
        return f"the label arrays have row shapes {found}, expected {expected}"
    dtype = next(field.dtype for field in labels if field.short_name == "logits")
    if dtype != coding.logits:
        return f"{dtype} arrays for {coding.logits} logits"
    return None


def _find_wrong_shape(manifest: Manifest) -> str | None:
    storage = manifest.storage
    features = [f"features/{feature.name}" for feature in manifest.features]
    if [field.name for field in storage.fields if field.group != "labels"] != features:
        return f"the feature arrays are not {features}"
    for field in storage.fields:
        if field.row_bytes * storage.shard_rows > MAX_FIELD_BYTES:
            return f"a shard of {field.name} would be {field.row_bytes * storage.shard_rows:,} bytes (limit 1 GiB)"
        if storage.shard_rows % field.chunk_rows:
            return f"chunks of {field.chunk_rows} rows don't divide shards of {storage.shard_rows} rows"
    return None


def _find_wrong_cover(manifest: Manifest) -> str | None:
    grid = manifest.grid
    if len(manifest.shards) != grid.num_shards:
        return f"{len(manifest.shards)} shards, expected {grid.num_shards}"
    for shard, record in zip(grid, manifest.shards, strict=True):
        if (shard.view, shard.start, shard.stop) != (record.view, record.start, record.stop):
            return f"rows {record.start}..{record.stop} of view {record.view} stand where {shard.name} belongs"
    if manifest.statistics.rows != grid.num_views * grid.num_samples:
        return f"statistics of {manifest.statistics.rows} rows, expected {grid.num_views * grid.num_samples}"
    statistics = [manifest.statistics, *(record.statistics for record in manifest.shards)]
    if any(len(each.captured_mass) != len(manifest.selection.temperatures) for each in statistics):
        return "statistics without one captured mass a temperature"
    return None
