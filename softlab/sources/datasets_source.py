"""Rows that Hugging Face's `datasets` reads: CSV, JSON, text, Parquet, folders of images, saved Arrow, the hub."""

# Shape letters: N samples.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlab.errors import readable
from softlab.identity import fields_hash
from softlab.keys import Keys
from softlab.sources.answers import Answers, check_answer_columns, read_answers
from softlab.sources.cells import (
    check_field_column,
    check_key_column,
    encoded_cell,
    find_path_column,
    keys_from_column,
    keys_from_files,
    row_numbers,
)
from softlab.sources.datasets_library import PREFIX, Loaded, load_rows
from softlab.sources.label_columns import (
    check_label_column,
    check_targets,
    name_classes,
    names_of_numbers,
    read_labels,
)
from softlab.sources.label_sequences import LabelSequences, read_label_sequences
from softlab.sources.label_sets import LabelSets, is_label_list, read_label_sets
from softlab.sources.options import DEFAULT_LABEL_COLUMN, SourceOptions
from softlab.sources.source import Sample, SkippedSample, source_in_a_line, unreadable


def open_datasets(address: str, options: SourceOptions) -> "DatasetsSource":
    """The rows at an address without its `datasets:`, in their order. Reads keys and targets, but no fields.

    A field has the values that a Parquet file of the same cells would give, so that both are one data set. Raises
    SourceError, InvalidOption.
    """
    loaded = load_rows(address, options.arguments)
    where, schema = f"{PREFIX}{address}", loaded.rows.features.arrow_schema
    for name, column in options.columns.items():
        check_field_column(where, schema, name, column)
    labels = _read_labels(where, loaded, options)
    wanted = list(dict.fromkeys(options.columns.values()))
    return DatasetsSource(
        name=_name(address),
        where=where,
        rows=loaded.rows.select_columns(wanted),
        columns=options.columns,
        keys=_read_keys(where, loaded, options),
        targets=labels.targets,
        class_names=labels.names,
        field_names=tuple(options.columns),
        label_sets=labels.sets_NC,
        label_sequences=labels.sequences,
        answers=_read_answers(where, loaded, options.answer_columns),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DatasetsSource:
    """Keys are those of a column, or the paths beside encoded data, or row numbers where one of these is missing or not
    unique. Of images in files, paths are relative to the folder that was given."""

    name: str
    where: str
    rows: Any
    """Of `datasets`: memory-mapped, and pickled without its rows."""

    columns: Mapping[str, str]
    """Of each field."""

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
        return self.read_many([index])[0]

    def read_many(self, indices: Sequence[int]) -> list[Sample]:
        """Raises UnreadableSample if one of them can't be read."""
        table = self.rows[list(indices)]
        cells = {field: table.column(column) for field, column in self.columns.items()}
        return [
            self._sample(index, {field: column[place] for field, column in cells.items()})
            for place, index in enumerate(indices)
        ]

    def _sample(self, index: int, cells: Mapping[str, Any]) -> Sample:
        key, place = self.keys[index], f"{self.where}, row {index}"
        try:
            fields = {field: encoded_cell(cell, field) for field, cell in cells.items()}
        except (ValueError, OSError) as error:
            raise unreadable(error, key=key, place=place) from error
        return Sample(index=index, key=key, fields=fields, content_hash=fields_hash(fields), place=place)


def _name(address: str) -> str:
    """Without folders."""
    reader, colon, path = address.rpartition(":")
    return f"{PREFIX}{reader.partition(':')[0]}{colon}{readable(Path(path).absolute().name)}"


def _column(loaded: Loaded, column: str) -> Any:
    return loaded.rows.select_columns([column])[:].column(0)


def _read_keys(where: str, loaded: Loaded, options: SourceOptions) -> Keys:
    schema = loaded.rows.features.arrow_schema
    if options.key_column is not None:
        check_key_column(where, schema, options.key_column)
        return keys_from_column(where, _column(loaded, options.key_column), options.key_column)
    column = find_path_column(schema, list(options.columns.values()))
    return row_numbers(len(loaded.rows)) if column is None else keys_from_files(_column(loaded, column), loaded.folder)


def _read_answers(where: str, loaded: Loaded, columns: Sequence[str]) -> Answers | None:
    check_answer_columns(where, loaded.rows.features.arrow_schema, columns)
    return read_answers(where, [_column(loaded, column) for column in columns]) if columns else None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Labels:
    """What a label column holds."""

    targets: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    sets_NC: LabelSets | None = None
    sequences: LabelSequences | None = None
    names: tuple[str, ...] | None = None


def _read_labels(where: str, loaded: Loaded, options: SourceOptions) -> _Labels:
    """Nothing where there is no column of the default name."""
    schema, column = loaded.rows.features.arrow_schema, options.label_column
    if column not in schema.names and column == DEFAULT_LABEL_COLUMN and not options.label_sequences:
        return _Labels()
    check_label_column(where, schema, column)
    cells, names = _column(loaded, column), loaded.class_names.get(column)
    if options.label_sequences:
        sequences, names = read_label_sequences(where, cells, known_names=names, class_names=options.class_names)
        return _Labels(sequences=sequences, names=names)
    if is_label_list(cells.type):
        sets_NC, names = read_label_sets(
            where, cells, known_names=names, class_names=options.class_names, are_vectors=options.label_vectors
        )
        return _Labels(sets_NC=sets_NC, names=names)
    targets_N, texts = read_labels(cells)
    if targets_N is None:
        (targets_N,), names = name_classes(where, [texts], options.class_names)
    elif options.class_names:
        raise names_of_numbers(where)
    check_targets(where, targets_N, names)
    return _Labels(targets={column: targets_N} if (targets_N >= 0).any() else {}, names=names)
