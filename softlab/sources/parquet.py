"""Parquet files with a column for each field of a sample, in the form in which dataset hubs publish them."""

# Shape letters: N samples.

import glob
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from numpy.typing import NDArray

from softlab.errors import SourceError, readable
from softlab.foreign_parquet import ForeignParquet
from softlab.identity import fields_hash
from softlab.keys import Keys
from softlab.sources.answers import Answers, check_answer_columns, read_answers
from softlab.sources.cells import (
    check_field_column,
    check_key_column,
    fast_cells,
    find_path_column,
    keys_from_column,
    keys_from_paths,
    raw_cell,
)
from softlab.sources.label_columns import check_label_column, check_targets, name_classes, names_of_numbers, read_labels
from softlab.sources.label_sequences import LabelSequences, no_lists, read_label_sequences
from softlab.sources.label_sets import LabelSets, is_label_list, read_label_sets
from softlab.sources.options import DEFAULT_LABEL_COLUMN
from softlab.sources.source import Raw, Sample, SkippedSample, source_in_a_line, unreadable
from softlab.sources.splits import check_one_split

MAX_CACHED_BYTES = 2 << 30


def find_parquet_files(path: str) -> list[Path]:
    """The file itself, the .parquet files of a folder, or the matches of a glob; sorted, empty if there are none."""
    if Path(path).is_dir():
        return sorted(Path(path).glob("*.parquet"))
    return [Path(path)] if Path(path).is_file() else sorted(Path(match) for match in glob.glob(path, recursive=True))


def open_parquet(
    path: str,
    *,
    fields: Mapping[str, str],
    label_column: str,
    key_column: str | None = None,
    class_names: tuple[str, ...] = (),
    label_vectors: bool = False,
    are_sequences: bool = False,
    answer_columns: Sequence[str] = (),
) -> "ParquetSource":
    """All rows of the files in the order of their names; `fields` names the column of each field. Reads keys and
    targets, but no fields. Labels that are texts or booleans are classes in sorted order, or in that of `class_names`.

    Raises SourceError if there is no such file, a file is damaged, the files are of several splits (train, test), or
    the columns aren't what they should be; InvalidOption for `class_names` of integer labels.
    """
    files = find_parquet_files(path)
    check_one_split(path, files)
    columns = _Columns(fields=fields, label=label_column, key=key_column, answers=tuple(answer_columns))
    parts = [_read_part(file, columns) for file in files]
    if not parts:
        raise SourceError(
            f"{path}: no such folder, and no .parquet file. Expected a folder of class folders, "
            f"or a .parquet file, a folder of them or a glob: check `source.path`."
        )
    for part in parts[1:]:
        if part.kind_of_labels != parts[0].kind_of_labels:
            raise SourceError(
                f"{part.file}: its labels or class names are not those of {parts[0].file.name}. "
                f"Give `source.path` files of one data set."
            )
    lists = [part.label_lists for part in parts if part.label_lists is not None]
    targets = [part.targets_N for part in parts if part.targets_N is not None]
    names = parts[0].class_names
    texts = [part.label_names for part in parts if part.label_names is not None]
    sets_NC: LabelSets | None = None
    sequences: LabelSequences | None = None
    if are_sequences:
        if len(lists) < len(parts):
            raise SourceError(no_lists(path))
        cells = pa.chunked_array([chunk for part in lists for chunk in part.chunks])
        sequences, names = read_label_sequences(path, cells, known_names=names, class_names=class_names)
    elif lists:
        cells = pa.chunked_array([chunk for part in lists for chunk in part.chunks])
        sets_NC, names = read_label_sets(
            path, cells, known_names=names, class_names=class_names, are_vectors=label_vectors
        )
    elif texts:
        targets, names = name_classes(path, texts, class_names)
    elif class_names:
        raise names_of_numbers(path)
    targets_N = np.concatenate(targets) if targets else None
    return ParquetSource(
        name=f"parquet:{readable(Path(path).absolute().name)}",
        rows=RowGroups([group for part in parts for group in part.groups], fields=fields),
        keys=_keys(path, [part.keys for part in parts], key_column),
        targets={} if targets_N is None or not (targets_N >= 0).any() else {label_column: targets_N},
        class_names=names,
        field_names=tuple(fields),
        label_sets=sets_NC,
        label_sequences=sequences,
        answers=_answers(path, [part.answers for part in parts]) if answer_columns else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ParquetSource:
    """Keys are those of a column, or the paths beside encoded data, or row numbers where one of these is missing or not
    unique."""

    name: str
    rows: "RowGroups"
    keys: Sequence[str]
    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...] | None
    field_names: tuple[str, ...]
    skipped: tuple[SkippedSample, ...] = ()
    label_sets: LabelSets | None = None
    """Of a label column of lists; then there are no targets."""

    label_sequences: LabelSequences | None = None
    """Of one of lists with a label for each unit; then there are neither."""

    answers: Answers | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return source_in_a_line(self)

    def read(self, index: int) -> Sample:
        key, place = self.keys[index], self.rows.place(index)
        try:
            fields = self.rows.read(index)
        except ValueError as error:
            raise unreadable(error, key=key, place=place) from error
        return Sample(index=index, key=key, fields=fields, content_hash=fields_hash(fields), place=place)


class RowGroups:
    """The fields of all files by row number.

    Row groups are read when first touched and stay in memory, in each process, up to MAX_CACHED_BYTES in all; then the
    one not used for longest goes. A set that doesn't fit is read fast in order, but reads a row group for most of its
    random rows.
    """

    def __init__(self, groups: Sequence["_RowGroup"], *, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)
        self._groups = groups
        self._starts = [0, *accumulate(group.num_rows for group in groups)]
        self._cache: dict[int, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def read(self, row: int) -> dict[str, Raw]:
        """The fields of a row. Raises SourceError if the file is damaged, ValueError where the row lacks a field."""
        index = self._index(row)
        columns = self._cache.pop(index, None)
        if columns is None:
            columns = self._load(self._groups[index])
        self._cache[index] = columns  # a dict keeps the order of insertion: the first is the one not used for longest
        return {field: raw_cell(column[row - self._starts[index]], field) for field, column in columns.items()}

    def place(self, row: int) -> str:
        index = self._index(row)
        group = self._groups[index]
        return f"{group.file}, row {group.start + row - self._starts[index]}"

    def _index(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1

    def _load(self, group: "_RowGroup") -> dict[str, Any]:
        with _naming(group.file), ForeignParquet(group.file) as file:
            table = file.read_group(group.index, list(dict.fromkeys(self._fields.values())))
        columns = {field: fast_cells(_without_path(table.column(column))) for field, column in self._fields.items()}
        size = _bytes_of(columns)
        while self._cache and size + sum(map(_bytes_of, self._cache.values())) > MAX_CACHED_BYTES:
            del self._cache[next(iter(self._cache))]
        return columns


@dataclass(frozen=True, kw_only=True, slots=True)
class _RowGroup:
    file: Path
    index: int
    start: int
    """Its first row's number in the file."""

    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """What one file says about its samples."""

    file: Path
    groups: list[_RowGroup]
    keys: Any
    """Of the key column, or the paths beside encoded data: one Arrow string a sample, null where there is none."""

    targets_N: NDArray[np.int64] | None
    """Of labels that are integers."""

    label_names: Any
    """Of labels that are names of classes: one Arrow string a sample, null where unknown; else None."""

    label_lists: Any
    """Of labels that are lists: an Arrow column of them; else None."""

    class_names: tuple[str, ...] | None

    answers: list[Any]
    """The Arrow columns of right answers; empty where there are none."""

    @property
    def kind_of_labels(self) -> tuple[object, ...]:
        """The same for all files of a data set."""
        lists = None if self.label_lists is None else self.label_lists.type
        return self.class_names, self.targets_N is None, self.label_names is None, lists


class _HubFeature(Struct):
    names: tuple[str, ...] | None = None
    feature: "_HubFeature | None" = None
    """Of a list: that of its values."""


class _HubInfo(Struct):
    features: dict[str, msgspec.Raw]


class _HubMetadata(Struct):
    """The part of the schema metadata `huggingface` that lists the columns."""

    info: _HubInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """What the columns of a file mean."""

    fields: Mapping[str, str]
    label: str
    key: str | None
    answers: tuple[str, ...]


def _read_part(path: Path, columns: _Columns) -> _Part:
    with _naming(path), ForeignParquet(path) as file:
        for field, column in columns.fields.items():
            check_field_column(path, file.schema, field, column)
        class_names = _class_names(file.schema, columns.label)
        labels = _read_labels(path, file, columns.label)
        lists = labels if labels is not None and is_label_list(labels.type) else None
        targets_N, label_names = (None, None) if labels is None or lists is not None else read_labels(labels)
        keys = _read_keys(path, file, columns)
        check_answer_columns(path, file.schema, columns.answers)
        answers = [file.read([column]).column(0) for column in columns.answers]
        rows = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
    if targets_N is not None:
        check_targets(path, targets_N, class_names)
    starts = accumulate(rows, initial=0)
    groups = [
        _RowGroup(file=path, index=index, start=start, num_rows=num_rows)
        for index, (start, num_rows) in enumerate(zip(starts, rows, strict=False))
    ]
    return _Part(
        file=path,
        groups=groups,
        keys=keys,
        targets_N=targets_N,
        label_names=label_names,
        label_lists=lists,
        class_names=class_names,
        answers=answers,
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        reason = str(error).rstrip(".")
        raise SourceError(f"{path}: can't be read as Parquet: {reason}. Check the file, or get it again.") from error


def _without_path(column: Any) -> Any:
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _bytes_of(columns: Mapping[str, Any]) -> int:
    return sum(column.nbytes for column in columns.values())


def _read_labels(path: Path, file: ForeignParquet, column: str) -> Any:
    """The label column; None where there is none of the default name."""
    schema = file.schema
    if column not in schema.names and column == DEFAULT_LABEL_COLUMN:
        return None
    check_label_column(path, schema, column)
    return file.read([column]).column(0)


def _read_keys(path: Path, file: ForeignParquet, columns: _Columns) -> Any:
    if columns.key is not None:
        check_key_column(path, file.schema, columns.key)
        return file.read([columns.key]).column(0).cast(pa.large_string())
    column = find_path_column(file.schema, list(columns.fields.values()))
    if column is None:
        return pa.chunked_array([pa.nulls(file.num_rows, pa.large_string())])
    return pc.struct_field(file.read([f"{column}.path"]).column(0), "path").cast(pa.large_string())


def _answers(path: str, parts: Sequence[Sequence[Any]]) -> Answers:
    columns = [
        pa.chunked_array([chunk for each in column for chunk in each.chunks]) for column in zip(*parts, strict=True)
    ]
    return read_answers(path, columns)


def _keys(path: str, parts: Sequence[Any], key_column: str | None) -> Keys:
    cells = pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.large_string())
    return keys_from_paths(cells) if key_column is None else keys_from_column(path, cells, key_column)


def _class_names(schema: Any, label_column: str) -> tuple[str, ...] | None:
    metadata = schema.metadata or {}
    try:
        features = msgspec.json.decode(metadata[b"huggingface"], type=_HubMetadata).info.features
        feature = msgspec.json.decode(features[label_column], type=_HubFeature)
        return feature.names if feature.feature is None else feature.feature.names
    except (KeyError, msgspec.MsgspecError):  # the metadata say nothing about this column
        return None
