"""Parquet files with a column of encoded images, in the form in which dataset hubs publish them."""

# Shape letters: N samples.

import glob
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Raw, Struct
from numpy.typing import NDArray

from softlab.errors import SourceError, suggest
from softlab.identity import content_hash
from softlab.keys import Keys
from softlab.sources.decoding import decode_image, unreadable
from softlab.sources.options import DEFAULT_LABEL_COLUMN
from softlab.sources.source import Sample, SkippedSample

MAX_CACHED_BYTES = 2 << 30


def find_parquet_files(path: str) -> list[Path]:
    """The file itself, the .parquet files of a folder, or the matches of a glob; sorted, empty if there are none."""
    if Path(path).is_dir():
        return sorted(Path(path).glob("*.parquet"))
    return [Path(path)] if Path(path).is_file() else sorted(Path(match) for match in glob.glob(path, recursive=True))


def open_parquet(path: str, *, image_column: str, label_column: str) -> "ParquetSource":
    """All rows of the files in the order of their names. Reads everything but the images.

    Raises SourceError if there is no such file, a file is damaged, or the columns aren't what they should be.
    """
    parts = [
        _read_part(file, image_column=image_column, label_column=label_column) for file in find_parquet_files(path)
    ]
    if not parts:
        raise SourceError(
            f"{path}: no such folder, and no .parquet file. Expected a folder of class folders, "
            f"or a .parquet file, a folder of them or a glob: check --source."
        )
    for part in parts[1:]:
        if (part.class_names, part.targets_N is None) != (parts[0].class_names, parts[0].targets_N is None):
            raise SourceError(
                f"{part.file}: its labels or class names are not those of {parts[0].file.name}. "
                f"Give --source files of one data set."
            )
    targets = [part.targets_N for part in parts if part.targets_N is not None]
    targets_N = np.concatenate(targets) if targets else None
    return ParquetSource(
        name=f"parquet:{Path(path).absolute().name}",
        images=RowGroups([group for part in parts for group in part.groups], column=image_column),
        keys=_keys([part.image_paths for part in parts]),
        targets_N=targets_N if targets_N is not None and (targets_N >= 0).any() else None,
        class_names=parts[0].class_names,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ParquetSource:
    """Keys are the images' paths, or row numbers where one is missing or not unique; raw bytes the encoded images."""

    name: str
    images: "RowGroups"
    keys: Sequence[str]
    targets_N: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None
    skipped: tuple[SkippedSample, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def raw_bytes(self, index: int) -> bytes:
        data = self.images.read(index)
        if data is None:
            error = ValueError("the row holds no image bytes")
            raise unreadable(error, key=self.keys[index], place=self.images.place(index)) from error
        return data

    def read(self, index: int) -> Sample:
        data = self.raw_bytes(index)
        return Sample(
            index=index,
            image_CHW=decode_image(data, key=self.keys[index], place=self.images.place(index)),
            content_hash=content_hash(data),
        )


class RowGroups:
    """The encoded images of all files by row number.

    Row groups are read when first touched and stay in memory, in each process, up to MAX_CACHED_BYTES in all; then the
    one not used for longest goes. A set that doesn't fit is read fast in order, but reads a row group for most of its
    random rows.
    """

    def __init__(self, groups: Sequence["_RowGroup"], *, column: str) -> None:
        self._column = column
        self._groups = groups
        self._starts = [0, *accumulate(group.num_rows for group in groups)]
        self._cache: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def read(self, row: int) -> bytes | None:
        """The image's bytes; None where the row has none. Raises SourceError if the file is damaged."""
        index = self._index(row)
        images = self._cache.pop(index, None)
        if images is None:
            images = self._load(self._groups[index])
        self._cache[index] = images  # a dict keeps the order of insertion, so the first is the one not used for longest
        return images[row - self._starts[index]].as_py()  # type: ignore[no-any-return]

    def place(self, row: int) -> str:
        index = self._index(row)
        group = self._groups[index]
        return f"{group.file}, row {group.start + row - self._starts[index]}"

    def _index(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1

    def _load(self, group: "_RowGroup") -> Any:
        with _naming(group.file), pq.ParquetFile(group.file, page_checksum_verification=True) as file:
            images = file.read_row_group(group.index, columns=[self._column]).column(0)
        images = pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
        while self._cache and images.nbytes + sum(each.nbytes for each in self._cache.values()) > MAX_CACHED_BYTES:
            del self._cache[next(iter(self._cache))]
        return images


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
    image_paths: Any
    """One Arrow string a sample, null where there is none."""

    targets_N: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None


class _HubFeature(Struct):
    names: tuple[str, ...] | None = None


class _HubInfo(Struct):
    features: dict[str, Raw]


class _HubMetadata(Struct):
    """The part of the schema metadata `huggingface` that lists the columns."""

    info: _HubInfo


def _read_part(path: Path, *, image_column: str, label_column: str) -> _Part:
    with _naming(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        _check_image_column(path, file.schema_arrow, image_column)
        class_names = _class_names(file.schema_arrow, label_column)
        targets_N = _read_targets(path, file, label_column)
        image_paths = _read_image_paths(file, image_column)
        rows = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
    if targets_N is not None:
        _check_targets(path, targets_N, class_names)
    starts = accumulate(rows, initial=0)
    groups = [
        _RowGroup(file=path, index=index, start=start, num_rows=num_rows)
        for index, (start, num_rows) in enumerate(zip(starts, rows, strict=False))
    ]
    return _Part(file=path, groups=groups, image_paths=image_paths, targets_N=targets_N, class_names=class_names)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).rstrip(".")
        raise SourceError(f"{path}: can't be read as Parquet: {reason}. Check the file, or get it again.") from error


def _check_image_column(path: Path, schema: Any, column: str) -> None:
    if column not in schema.names:
        raise SourceError(
            f"{path}: there is no column {column!r}. {suggest(column, schema.names)} "
            f"Name the column of encoded images with --source-image-column."
        )
    found = schema.field(column).type
    encoded = found.field("bytes").type if pa.types.is_struct(found) and found.get_field_index("bytes") >= 0 else found
    if not (pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded) or pa.types.is_binary_view(encoded)):
        raise SourceError(
            f"{path}: the column {column!r} has type {found}, expected binary or struct<bytes: binary, path: string>. "
            f"Name the column of encoded images with --source-image-column."
        )


def _read_image_paths(file: Any, column: str) -> Any:
    found = file.schema_arrow.field(column).type
    if not pa.types.is_struct(found) or found.get_field_index("path") < 0:
        return pa.chunked_array([pa.nulls(file.metadata.num_rows, pa.large_string())])
    images = file.read(columns=[f"{column}.path"]).column(0)
    return pc.struct_field(images, "path").cast(pa.large_string())


def _read_targets(path: Path, file: Any, column: str) -> NDArray[np.int64] | None:
    names = file.schema_arrow.names
    if column not in names and column == DEFAULT_LABEL_COLUMN:
        return None
    if column not in names or not pa.types.is_integer(file.schema_arrow.field(column).type):
        found = f"has type {file.schema_arrow.field(column).type}" if column in names else "is not there"
        raise SourceError(
            f"{path}: the column {column!r} {found}. {suggest(column, names)} "
            f"Name an integer column with --source-label-column."
        )
    labels = file.read(columns=[column]).column(0).cast(pa.int64()).fill_null(-1)
    return np.array(labels, dtype=np.int64)


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


def _keys(image_paths: Sequence[Any]) -> Keys:
    paths = pa.chunked_array([chunk for part in image_paths for chunk in part.chunks], pa.large_string())
    num_rows = len(paths)
    if pc.any(pc.equal(paths, "")).as_py() or pc.count_distinct(paths, mode="only_valid").as_py() < num_rows:
        width = len(str(num_rows - 1))
        return Keys(f"{row:0{width}}" for row in range(num_rows))
    return Keys.from_arrow(paths)
