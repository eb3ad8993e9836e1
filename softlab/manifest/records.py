"""What a manifest says, part by part.

`StorePlan` is what is settled before the first row is written, and what a resumed dump must repeat exactly; `Manifest`
adds what is known at the end.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from softlab.amounts import format_count
from softlab.identity import digest_of
from softlab.shards import Dtype, ShardGrid, row_bytes

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
FieldName = Annotated[str, Meta(pattern=r"^((labels|features)|outputs/[A-Za-z0-9_-]{1,64})/[A-Za-z0-9_-]{1,64}\Z")]
"""`outputs/NAME/class_ids`; in stores of format 1 `labels/class_ids` and `features/NAME`."""

StoredPath = Annotated[str, Meta(min_length=1, max_length=512)]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, and strict about its keys."""


class ImportedRecord(Record, frozen=True, kw_only=True):
    """What is known of a teacher that ran elsewhere, and whose predictions were imported."""

    kind: Literal["logits", "log_probabilities", "probabilities", "votes", "values"]
    """What its numbers were."""

    file: Fingerprint
    """BLAKE3 of the file, or of all that was given in Python."""

    is_top_k: bool
    """Whether the file held some classes of each row, and not all of them."""


class TeacherRecord(Record, frozen=True, kw_only=True):
    model: str
    arguments: dict[str, Any]
    weights_fingerprint: Fingerprint
    num_parameters: Count
    precision: str
    """The dtype of the forward pass: float32, or that of autocast."""

    imported: ImportedRecord | UnsetType = UNSET
    """Of a teacher that softlab didn't run; `weights_fingerprint` is then the hash of its predictions."""

    @property
    def in_words(self) -> str:
        """`1,234 parameters, weights 0123456789ab, float32`; of an imported one what is known of it."""
        known_by = self.weights_fingerprint[:12]
        if isinstance(self.imported, UnsetType):
            return f"{self.num_parameters:,} parameters, weights {known_by}, {self.precision}"
        of_some = " of the likeliest classes" if self.imported.is_top_k else ""
        return f"{self.imported.kind.replace('_', '-')}{of_some} that were imported, file {known_by}"


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


class LabelSpaceRecord(Record, frozen=True, kw_only=True):
    num_classes: Positive
    class_names: tuple[str, ...] | None
    fingerprint: Fingerprint


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


class SelectionRecord(Record, frozen=True, kw_only=True):
    method: Literal["topk"]
    k: Positive
    temperatures: Annotated[tuple[Temperature, ...], Meta(min_length=1, max_length=64)]


class CodingRecord(Record, frozen=True, kw_only=True):
    logits: Literal["float32", "float16", "uint8"]
    gap_step: Annotated[float, Meta(gt=0, le=64)] | None
    """uint8 only: nats for one step of a gap between successive logits."""


class ClassesRecord(Record, frozen=True, kw_only=True, tag_field="kind", tag="classes"):
    """An output that is logits over classes: its largest ones are stored, and the exact tail."""

    name: OutputName
    taken_from: str
    """Where in the model: `output` for the only one, the name of a field of what it returns, or `layer:NAME`."""

    head: Literal["softmax", "sigmoid"] = "softmax"
    """How logits become probabilities: of one class among all, or of each class by itself (multi-label)."""

    label_space: LabelSpaceRecord
    selection: SelectionRecord
    coding: CodingRecord
    absolute: bool = True
    """Whether logits have a level of their own. False where only probabilities were known."""

    interpolates: bool | UnsetType = UNSET
    """False where tails are known at the stored temperatures alone; a manifest says nothing where they can be told
    between them."""

    units: bool = False
    """Whether there is a row for each unit of a sample (a position, a token, a frame), and not one a sample."""

    valid: bool = False
    """Whether rows may have fewer classes: then `valid` says how many each has, the first ones."""

    masked: bool | UnsetType = UNSET
    """Whether those may be any classes: then `valid_bits` says which ones. A manifest says nothing where not."""

    @property
    def in_a_line(self) -> str:
        """`K=16 of 1000, softmax`."""
        return f"K={self.selection.k} of {self.label_space.num_classes}, {self.head}"


class ValuesRecord(Record, frozen=True, kw_only=True, tag_field="kind", tag="values"):
    """An output that is stored as it is: a feature, an embedding, scores; one vector or map a row."""

    name: OutputName
    taken_from: str
    """As in `ClassesRecord`; a layer's with its pooling, `layer:NAME:mean`."""

    units: bool = False

    other_coding: Literal["float32", "int8"] | UnsetType = msgspec.field(name="coding", default=UNSET)
    """What the manifest says as `coding`. It says nothing where that is float16, as before there was a choice."""

    @property
    def coding(self) -> Literal["float32", "float16", "int8"]:
        """How numbers are stored; of int8 each row has a scale."""
        return "float16" if self.other_coding is UNSET else self.other_coding


OutputRecord = ClassesRecord | ValuesRecord


class FieldRecord(Record, frozen=True, kw_only=True):
    """One array: what it holds for each row, and how many rows make a chunk."""

    name: FieldName
    dtype: Dtype
    row_shape: Annotated[tuple[Positive, ...], Meta(max_length=4)]
    chunk_rows: Positive

    @property
    def group(self) -> str:
        """What is read together: the arrays of one output."""
        return self.name if self.name.startswith("features/") else self.name.rpartition("/")[0]

    @property
    def short_name(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.dtype, self.row_shape)


class StorageRecord(Record, frozen=True, kw_only=True):
    format: Literal["zarr", "parquet"]
    shard_rows: Positive
    """Samples in a shard, and so rows of an output without units."""

    shard_units: Positive | None = None
    """Rows that a shard has room for in an output with units; what its samples don't need is fill. None where no output
    has units."""

    fields: tuple[FieldRecord, ...]

    def fields_of(self, group: str) -> tuple[FieldRecord, ...]:
        return tuple(field for field in self.fields if field.group == group)


class FileRecord(Record, frozen=True, kw_only=True, gc=False):
    """One of hundreds of thousands in a large store: it holds no cycles, so the collector need not follow it."""

    path: StoredPath
    bytes: Count
    blake3: FileDigest


class Statistics(Record, frozen=True, kw_only=True, gc=False):
    """Of one output of kind `classes`: sums over rows, so that those of shards add up to those of the store."""

    rows: Count
    rows_with_target: Count
    correct: Count
    """Rows whose largest logit is at the hard target."""

    captured_mass: tuple[float, ...]
    """Sum over rows of the kept classes' probability, one value a temperature; under a sigmoid head of the share that
    they have of the sum of all classes' probabilities."""

    clipped_logits: Count
    """Logits that the coding could not hold within its rounding."""

    coding_kl: tuple[float, ...] | UnsetType = UNSET
    """Of the uint8 coding, where a dump measured it: sum over rows of the KL from the teacher's kept classes and tail
    to the stored ones, in nats, one value a temperature."""

    coding_shift: tuple[float, ...] | UnsetType = UNSET
    """Likewise of how far a loss's value moves: |sum of p log p of the stored ones - that of the teacher's|."""

    @property
    def coding_cost(self) -> tuple[float, float] | None:
        """Nats a row at the temperature where they are highest: the KL of what is stored, and by how much a loss's
        value moves; None where that wasn't measured."""
        if self.coding_kl is UNSET or self.coding_shift is UNSET:
            return None
        rows = max(self.rows, 1)
        return max(self.coding_kl) / rows, max(self.coding_shift) / rows

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.rows_with_target if self.rows_with_target else None

    @property
    def mean_captured_mass(self) -> tuple[float, ...]:
        """0 where there are no rows, as samples with units may have none."""
        return tuple(total / max(self.rows, 1) for total in self.captured_mass)


class PrecisionRecord(Record, frozen=True, kw_only=True, gc=False):
    """Samples start..stop-1, which were run in another precision than `teacher.precision`."""

    start: Count
    stop: Positive
    precision: str


class ShardRecord(Record, frozen=True, kw_only=True, gc=False):
    view: Count
    start: Count
    stop: Positive
    files: tuple[FileRecord, ...]
    statistics: dict[str, Statistics]
    """By output, of kind `classes`."""

    precisions: tuple[PrecisionRecord, ...] | UnsetType = UNSET
    """Its samples of another precision than `teacher.precision`, where there are such: those that overflowed in half
    precision and were run again, or that were there before a dump went on in float32."""

    cut_off: Count | UnsetType = UNSET
    """How many of its samples were longer than the teacher's input, which didn't see their end. Nothing is said where
    samples have no length, and of a store that was pulled in part."""


class StorePlan(Record, frozen=True, kw_only=True):
    """Everything that is settled before the first row is written."""

    format: Literal["softlab"]
    format_version: Literal[1, 2]
    kind: Literal["soft-labels"]
    softlab_version: str
    libraries: dict[str, str]
    teacher: TeacherRecord
    source: SourceRecord
    inputs: Annotated[tuple[InputRecord, ...], Meta(min_length=1, max_length=16)]
    views: ViewsRecord
    outputs: Annotated[tuple[OutputRecord, ...], Meta(min_length=1, max_length=256)]
    storage: StorageRecord
    parent: Fingerprint | None
    """Digest of the store that this one was made from: converted, extended by views, or pulled in part."""

    @property
    def grid(self) -> ShardGrid:
        return ShardGrid(
            num_views=self.views.num_views,
            num_samples=self.source.num_samples,
            shard_rows=self.storage.shard_rows,
        )

    @property
    def seen(self) -> tuple[InputRecord, ...]:
        """How the samples were decoded for the teacher; nothing where it ran elsewhere, as that isn't known."""
        return self.inputs if self.teacher.imported is UNSET else ()

    @property
    def classes(self) -> tuple[ClassesRecord, ...]:
        """The outputs that are soft labels; none where the teacher gives embeddings alone."""
        return tuple(output for output in self.outputs if isinstance(output, ClassesRecord))

    @property
    def values(self) -> tuple[ValuesRecord, ...]:
        return tuple(output for output in self.outputs if isinstance(output, ValuesRecord))

    @property
    def has_units(self) -> bool:
        return any(output.units for output in self.outputs)

    def group_of(self, output: OutputRecord) -> str:
        """Where its arrays are: `outputs/NAME`; in a store of format 1 `labels` or `features/NAME`."""
        if self.format_version == 1:
            return "labels" if isinstance(output, ClassesRecord) else f"features/{output.name}"
        return f"outputs/{output.name}"

    def array_of(self, output: OutputRecord, name: str) -> str:
        """One of its arrays: `outputs/NAME/values`; in a store of format 1, where a feature is one array, that one."""
        group = self.group_of(output)
        return group if group.startswith("features/") else f"{group}/{name}"

    def __repr__(self) -> str:
        """One line: all that it holds is thousands of characters."""
        return f"{type(self).__name__}({self.teacher.model} on {self.source.name}, {self.in_a_line})"

    @property
    def in_a_line(self) -> str:
        """`50,000 samples, 1 view, K=16 of 1000, softmax`. Outputs have their names where there are several, and
        values always."""
        samples, views = self.source.num_samples, self.views.num_views
        outputs = "; ".join(self._output_in_a_line(output) for output in self.outputs)
        return f"{format_count(samples, 'sample')}, {format_count(views, 'view')}, {outputs}"

    def _output_in_a_line(self, output: OutputRecord) -> str:
        units = ", a row for each unit" if output.units else ""
        if isinstance(output, ValuesRecord):
            return f"{output.name}: values [{self.shape_in_words(output)}]{units}"
        name = f"{output.name}: " if len(self.outputs) > 1 else ""
        return f"{name}{output.in_a_line}{units}"

    def shape_in_words(self, output: ValuesRecord) -> str:
        """Of one row: `768`, or `512x7x7`."""
        fields = self.storage.fields_of(self.group_of(output))
        field = next((each for each in fields if each.short_name == "values"), fields[0])  # in format 1 the only one
        return "x".join(map(str, field.row_shape)) or "1"

    def output_of(self, field: FieldRecord) -> OutputRecord:
        """The output that an array belongs to."""
        return next(output for output in self.outputs if self.group_of(output) == field.group)

    def shard_capacity(self, field: FieldRecord) -> int:
        """Rows of one array that a shard has room for."""
        units = self.storage.shard_units
        return units if units is not None and self.output_of(field).units else self.storage.shard_rows


class Manifest(StorePlan, frozen=True, kw_only=True):
    """A finished store."""

    source_fingerprint: Fingerprint
    samples_file: FileRecord
    layout_files: tuple[FileRecord, ...]
    """Files of the format itself (Zarr's metadata), which belong to no shard."""

    shards: tuple[ShardRecord, ...]
    statistics: dict[str, Statistics]
    """By output, of kind `classes`."""

    self_digest: Annotated[str, Meta(max_length=64)] = msgspec.field(name="self", default="")
    """BLAKE3 of the document without this line, so that one changed bit of it is found; see `document.encode`. It
    belongs to the bytes, not to what they say: here it is empty. It isn't the last key: a comma ends its line."""

    digest_files: tuple[FileRecord, ...] = ()
    """Digests of pixels, one file a view; none if they were not kept."""

    @property
    def plan(self) -> StorePlan:
        """What was settled before its first row was written."""
        return StorePlan(**{name: getattr(self, name) for name in StorePlan.__struct_fields__})

    @property
    def num_rows(self) -> int:
        """Of the first output of kind `classes`, in all views; without one, of an output without units."""
        if self.classes:
            return self.statistics[self.classes[0].name].rows
        return self.views.num_views * self.source.num_samples

    @property
    def files(self) -> list[FileRecord]:
        """Every file that the manifest vouches for."""
        own = [self.samples_file, *self.layout_files, *self.digest_files]
        return own + [file for shard in self.shards for file in shard.files]

    @property
    def cut_off(self) -> int | None:
        """How many samples of all views were longer than the teacher's input; None where that isn't said."""
        known = [shard.cut_off for shard in self.shards if not isinstance(shard.cut_off, UnsetType)]
        return sum(known) if known and len(known) == len(self.shards) else None

    def bytes_of(self, outputs: Iterable[OutputRecord]) -> int:
        """What the files of some outputs take."""
        groups = tuple(f"{self.group_of(output)}/" for output in outputs)
        return sum(file.bytes for file in self.files if file.path.startswith(groups))


def add_up(statistics: Sequence[Statistics]) -> Statistics:
    """Of several shards together; the same to the last bit everywhere, as `sum` of floats is not before Python 3.12."""
    return Statistics(
        rows=sum(each.rows for each in statistics),
        rows_with_target=sum(each.rows_with_target for each in statistics),
        correct=sum(each.correct for each in statistics),
        captured_mass=_added([each.captured_mass for each in statistics]),
        clipped_logits=sum(each.clipped_logits for each in statistics),
        coding_kl=_added_where_all([each.coding_kl for each in statistics]),
        coding_shift=_added_where_all([each.coding_shift for each in statistics]),
    )


def _added(sums: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(math.fsum(column) for column in zip(*sums, strict=True))


def _added_where_all(sums: Sequence[tuple[float, ...] | UnsetType]) -> tuple[float, ...] | UnsetType:
    """Unset where a part, such as views that an older softlab added, wasn't measured, or is of other temperatures."""
    known = [each for each in sums if each is not UNSET]
    is_known = len(known) == len(sums) and len({len(each) for each in known}) == 1
    return _added(known) if is_known else UNSET


def add_up_by_output(shards: Sequence[ShardRecord]) -> dict[str, Statistics]:
    """The same for each output."""
    names = shards[0].statistics if shards else {}
    return {name: add_up([shard.statistics[name] for shard in shards]) for name in names}
