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

from softlab.errors import InvalidOption, SourceError, readable, suggest
from softlab.foreign_parquet import ForeignParquet
from softlab.identity import fields_hash
from softlab.keys import Keys
from softlab.sources.label_columns import check_label_column, is_name, name_classes, read_names
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
    path: str, *, fields: Mapping[str, str], label_column: str, class_names: tuple[str, ...] = ()
) -> "ParquetSource":
    """All rows of the files in the order of their names; `fields` names the column of each field. Reads keys and
    targets, but no fields. Labels that are texts or booleans are classes in sorted order, or in that of `class_names`.

    Raises SourceError if there is no such file, a file is damaged, the files are of several splits (train, test), or
    the columns aren't what they should be; InvalidOption for `class_names` of integer labels.
    """
    files = find_parquet_files(path)
    check_one_split(path, files)
    parts = [_read_part(file, fields=fields, label_column=label_column) for file in files]
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
    targets = [part.targets_N for part in parts if part.targets_N is not None]
    names = parts[0].class_names
    texts = [part.label_names for part in parts if part.label_names is not None]
    if texts:
        targets, names = name_classes(path, texts, class_names)
    elif class_names:
        raise InvalidOption(
            f"{path}: class_names give the order of labels that are texts, and these are numbers already. "
            f"Leave out `source.class_names`."
        )
    targets_N = np.concatenate(targets) if targets else None
    return ParquetSource(
        name=f"parquet:{readable(Path(path).absolute().name)}",
        rows=RowGroups([group for part in parts for group in part.groups], fields=fields),
        keys=_keys([part.paths for part in parts]),
        targets={} if targets_N is None or not (targets_N >= 0).any() else {label_column: targets_N},
        class_names=names,
        field_names=tuple(fields),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ParquetSource:
    """Keys are the paths beside encoded data, or row numbers where one is missing or not unique."""

    name: str
    rows: "RowGroups"
    keys: Sequence[str]
    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...] | None
    field_names: tuple[str, ...]
    skipped: tuple[SkippedSample, ...] = ()

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
        return {field: _raw(column[row - self._starts[index]], field) for field, column in columns.items()}

    def place(self, row: int) -> str:
        index = self._index(row)
        group = self._groups[index]
        return f"{group.file}, row {group.start + row - self._starts[index]}"

    def _index(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1

    def _load(self, group: "_RowGroup") -> dict[str, Any]:
        with _naming(group.file), ForeignParquet(group.file) as file:
            table = file.read_group(group.index, list(dict.fromkeys(self._fields.values())))
        columns = {field: _without_path(table.column(column)) for field, column in self._fields.items()}
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
    paths: Any
    """One Arrow string a sample, null where there is none."""

    targets_N: NDArray[np.int64] | None
    """Of labels that are integers."""

    label_names: Any
    """Of labels that are names of classes: one Arrow string a sample, null where unknown; else None."""

    class_names: tuple[str, ...] | None

    @property
    def kind_of_labels(self) -> tuple[tuple[str, ...] | None, bool, bool]:
        """The same for all files of a data set."""
        return self.class_names, self.targets_N is None, self.label_names is None


class _HubFeature(Struct):
    names: tuple[str, ...] | None = None


class _HubInfo(Struct):
    features: dict[str, msgspec.Raw]


class _HubMetadata(Struct):
    """The part of the schema metadata `huggingface` that lists the columns."""

    info: _HubInfo


def _read_part(path: Path, *, fields: Mapping[str, str], label_column: str) -> _Part:
    with _naming(path), ForeignParquet(path) as file:
        for field, column in fields.items():
            _check_column(path, file.schema, field, column)
        class_names = _class_names(file.schema, label_column)
        targets_N, label_names = _read_targets(path, file, label_column)
        paths = _read_paths(file, list(fields.values()))
        rows = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
    if targets_N is not None:
        _check_targets(path, targets_N, class_names)
    starts = accumulate(rows, initial=0)
    groups = [
        _RowGroup(file=path, index=index, start=start, num_rows=num_rows)
        for index, (start, num_rows) in enumerate(zip(starts, rows, strict=False))
    ]
    return _Part(
        file=path, groups=groups, paths=paths, targets_N=targets_N, label_names=label_names, class_names=class_names
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        reason = str(error).rstrip(".")
        raise SourceError(f"{path}: can't be read as Parquet: {reason}. Check the file, or get it again.") from error


def _check_column(path: Path, schema: Any, field: str, column: str) -> None:
    next_step = f"Name the column of the field {field!r}, as `source.image_column` or `source.fields.{field}`."
    if column not in schema.names:
        raise SourceError(
            f"{path}: there is no column {column!r} for the field {field!r}. {suggest(column, schema.names)} "
            f"(There are: {', '.join(schema.names)}.) {next_step}"
        )
    found = schema.field(column).type
    if not (_is_binary(_encoded(found)) or _is_text(found) or _is_numbers(found)):
        columns = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names)
        raise SourceError(
            f"{path}: the column {column!r} for the field {field!r} has type {found}, expected binary, "
            f"struct<bytes: binary, path: string>, string, numbers or lists of numbers. (There are: {columns}.) "
            f"{next_step}"
        )


def _encoded(found: Any) -> Any:
    """The type of the bytes in a struct<bytes, path>; of others the type itself."""
    return found.field("bytes").type if pa.types.is_struct(found) and found.get_field_index("bytes") >= 0 else found


def _is_binary(found: Any) -> bool:
    return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found) or pa.types.is_binary_view(found))


def _is_text(found: Any) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))


def _is_numbers(found: Any) -> bool:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
    number = found.value_type if is_list else found
    return bool(pa.types.is_integer(number) or pa.types.is_floating(number) or pa.types.is_boolean(number))


def _without_path(column: Any) -> Any:
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _bytes_of(columns: Mapping[str, Any]) -> int:
    return sum(column.nbytes for column in columns.values())


def _raw(scalar: Any, field: str) -> Raw:
    """A cell as a source gives it. Raises ValueError for an empty one, or a list with holes."""
    if not scalar.is_valid:
        raise ValueError(f"the row holds no {field}")
    if not _is_numbers(scalar.type):
        value: Raw = scalar.as_py()
        return value
    if hasattr(scalar, "values"):
        if scalar.values.null_count:
            raise ValueError(f"the list of its {field} holds {scalar.values.null_count:,} empty places")
        return np.array(scalar.values)
    return np.array(pa.array([scalar.as_py()], scalar.type))[0:1].reshape(())


def _read_paths(file: ForeignParquet, columns: Sequence[str]) -> Any:
    """Those beside the encoded data of the first field that has any."""
    for column in columns:
        found = file.schema.field(column).type
        if pa.types.is_struct(found) and found.get_field_index("path") >= 0:
            cells = file.read([f"{column}.path"]).column(0)
            return pc.struct_field(cells, "path").cast(pa.large_string())
    return pa.chunked_array([pa.nulls(file.num_rows, pa.large_string())])


def _read_targets(path: Path, file: ForeignParquet, column: str) -> tuple[NDArray[np.int64] | None, Any]:
    """Integers, or the names of classes; both None where there is no column of the default name."""
    schema = file.schema
    if column not in schema.names and column == DEFAULT_LABEL_COLUMN:
        return None, None
    check_label_column(path, schema, column)
    cells = file.read([column]).column(0)
    if is_name(cells.type):
        return None, read_names(cells)
    return np.array(cells.cast(pa.int64()).fill_null(-1), dtype=np.int64), None


def _check_targets(path: Path, targets_N: NDArray[np.int64], class_names: tuple[str, ...] | None) -> None:
    num_classes = len(class_names) if class_names is not None else np.iinfo(np.int64).max
    wrong = np.flatnonzero((targets_N < -1) | (targets_N >= num_classes))
    if len(wrong):
        expected = "0 or more" if class_names is None else f"0 to {num_classes - 1} for its {num_classes} class names"
        raise SourceError(
            f"{path}, row {wrong[0]}: label {targets_N[wrong[0]]}, expected {expected}, or -1 where unknown. "
            f"Correct the {len(wrong):,} such rows, or the class names in the file's metadata."
        )


def _class_names(schema: Any, label_column: str) -> tuple[str, ...] | None:
    metadata = schema.metadata or {}
    try:
        features = msgspec.json.decode(metadata[b"huggingface"], type=_HubMetadata).info.features
        return msgspec.json.decode(features[label_column], type=_HubFeature).names
    except (KeyError, msgspec.MsgspecError):  # the metadata say nothing about this column
        return None


def _keys(path_arrays: Sequence[Any]) -> Keys:
    paths = pa.chunked_array([chunk for part in path_arrays for chunk in part.chunks], pa.large_string())
    num_rows = len(paths)
    if pc.any(pc.equal(paths, "")).as_py() or pc.count_distinct(paths, mode="only_valid").as_py() < num_rows:
        width = len(str(num_rows - 1))
        return Keys(f"{row:0{width}}" for row in range(num_rows))
    return Keys.from_arrow(paths)
