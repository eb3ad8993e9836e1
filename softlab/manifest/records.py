"""The whole of a manifest.

`StorePlan` is what is settled before the first row is written, and what a resumed dump must repeat exactly; `Manifest`
adds what is known at the end.
"""

import operator
from collections.abc import Iterable
from functools import reduce
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from softlab.amounts import format_count
from softlab.manifest.outputs import ClassesRecord, OutputRecord, TokensReadRecord, ValuesRecord
from softlab.manifest.sample_parts import FurtherSamplesRecord
from softlab.manifest.seen import InputRecord, SourceRecord, ViewsRecord
from softlab.manifest.statistics import Statistics
from softlab.manifest.storage import FieldRecord, FileRecord, ShardRecord, StorageRecord, TokensRecord
from softlab.manifest.teacher import TeacherRecord
from softlab.manifest.value_types import Fingerprint, Record
from softlab.shards import ShardGrid

SAMPLES, ENTRIES = "/samples", "/entries"
"""Ends of the names of groups, where rows have entries: arrays with a row for each sample, and for each entry."""

Axis = Literal["sample", "unit", "entry"]


class StorePlan(Record, frozen=True, kw_only=True):
    """Everything that is settled before the first row is written."""

    format: Literal["softlab"]
    format_version: Literal[1, 2, 3]
    """3 where the table of samples lies in several files, and else as 2."""

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
    def tokens_read(self) -> TokensReadRecord | None:
        """What the teacher has read, where the store holds it."""
        return next((output for output in self.outputs if isinstance(output, TokensReadRecord)), None)

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
        if isinstance(output, TokensReadRecord):
            return f"{output.name}: what was read, up to {output.most:,} tokens"
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
        return self.output_of_group(field.group)

    def output_of_group(self, group: str) -> OutputRecord:
        """The output that the arrays of a group belong to."""
        return next(output for output in self.outputs if f"{group}/".startswith(f"{self.group_of(output)}/"))

    def groups_of(self, output: OutputRecord) -> tuple[str, ...]:
        """The groups of its arrays, that of its rows first."""
        group = self.group_of(output)
        if isinstance(output, TokensReadRecord):
            return (f"{group}{SAMPLES}", f"{group}{ENTRIES}")
        is_sampled = isinstance(output, ClassesRecord) and output.is_sampled
        return (group, f"{group}{SAMPLES}", f"{group}{ENTRIES}") if is_sampled else (group,)

    def axis_of(self, group: str) -> Axis:
        """What the arrays of a group have a row for."""
        output = self.output_of_group(group)
        end = group.removeprefix(self.group_of(output))
        if end == ENTRIES:
            return "entry"
        return "unit" if output.units and not end else "sample"

    def shard_capacity(self, field: FieldRecord) -> int:
        """Rows of one array that a shard has room for."""
        output, axis, storage = self.output_of(field), self.axis_of(field.group), self.storage
        if axis == "sample" or (axis == "unit" and storage.shard_units is None):
            return storage.shard_rows
        if isinstance(output, TokensReadRecord):
            return storage.shard_rows * output.most
        rows = storage.shard_units if output.units and storage.shard_units is not None else storage.shard_rows
        return rows * output.selection.k if axis == "entry" and isinstance(output, ClassesRecord) else rows


class Manifest(StorePlan, frozen=True, kw_only=True):
    """A finished store."""

    source_fingerprint: Fingerprint
    samples_file: FileRecord
    """The table of samples, or in format 3 its first part."""

    further_samples: FurtherSamplesRecord | UnsetType = UNSET
    """Its other parts, in format 3."""

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
    def samples_files(self) -> tuple[FileRecord, ...]:
        """The table of samples, part by part."""
        further = self.further_samples
        return (self.samples_file, *(() if isinstance(further, UnsetType) else further.files))

    @property
    def samples_grid(self) -> ShardGrid:
        """Which samples each of those files has."""
        num_samples, further = self.source.num_samples, self.further_samples
        part_rows = num_samples if isinstance(further, UnsetType) else further.part_rows
        return ShardGrid(num_views=1, num_samples=num_samples, shard_rows=part_rows)

    @property
    def files(self) -> list[FileRecord]:
        """Every file that the manifest vouches for."""
        own = [*self.samples_files, *self.layout_files, *self.digest_files]
        return own + [file for shard in self.shards for file in shard.files]

    @property
    def cut_off(self) -> int | None:
        """How many samples of all views were longer than the teacher's input; None where that isn't said."""
        known = [shard.cut_off for shard in self.shards if not isinstance(shard.cut_off, UnsetType)]
        return sum(known) if known and len(known) == len(self.shards) else None

    @property
    def tokens(self) -> TokensRecord | None:
        """Of all views, what the teacher read and what was cut off; None where that isn't said."""
        known = [shard.tokens for shard in self.shards if not isinstance(shard.tokens, UnsetType)]
        is_whole = bool(known) and len(known) == len(self.shards)
        return reduce(operator.add, known) if is_whole else None

    def bytes_of(self, outputs: Iterable[OutputRecord]) -> int:
        """What the files of some outputs take."""
        groups = tuple(f"{self.group_of(output)}/" for output in outputs)
        return sum(file.bytes for file in self.files if file.path.startswith(groups))
