"""Opens whichever kind of data set the options name."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from softlab.errors import InvalidOption, OddSource, SourceError
from softlab.keys import read_keys
from softlab.manifest import InputRecord
from softlab.modalities.modality import (
    DEFAULT_MODALITY,
    InputOptions,
    Modality,
    decoding_for,
    find_modality,
    read_fully,
)
from softlab.ranks import is_first_rank
from softlab.sources.datasets_library import PREFIX
from softlab.sources.datasets_source import open_datasets
from softlab.sources.file_kind import IMAGE_FILES
from softlab.sources.folder import open_folder
from softlab.sources.known_classes import counted_from
from softlab.sources.options import Kind, SourceOptions
from softlab.sources.parquet import find_parquet_files, open_parquet
from softlab.sources.several_targets import open_columns
from softlab.sources.source import Source
from softlab.sources.subset import first, readable, with_keys, with_targets
from softlab.sources.summary import describe_source


def open_source(
    options: SourceOptions | str | Path,
    *,
    modality: str = DEFAULT_MODALITY,
    inputs: Sequence[InputOptions] = (),
    seen: Sequence[InputRecord] = (),
    on_scan: Callable[[int, int], None] | None = None,
) -> Source:
    """The data set at a path, or of options that say more than a path; nothing is decoded yet.

        source = softlab.open_source("pets/train")
        source = softlab.open_source(softlab.SourceOptions(path="pets.parquet", label_column="breed"))

    A path is that of a folder of class folders, of a .parquet file or a folder of them, datasets:.. for what Hugging
    Face's `datasets` reads, or torchvision:NAME. Raises SourceError or InvalidOption. Warns with OddSource where
    something was left out; `describe_source` tells all.

    With `skip_unreadable` every sample is decoded once, as it will be for models with these `inputs`, or as a store's
    teacher has `seen` it, and `on_scan(done, total)` called after each; the limit counts samples before the unreadable
    ones are left out.
    """
    options = options if isinstance(options, SourceOptions) else SourceOptions(path=str(options))
    if options.label_columns:
        each = partial(open_source, modality=modality, inputs=inputs, seen=seen, on_scan=on_scan)
        return open_columns(
            options.label_columns, lambda column: each(replace(options, label_column=column, label_columns=()))
        )
    meaning = find_modality(modality)
    source = _open(options, meaning)
    if not len(source):
        raise SourceError(f"{source.name}: no samples. Check `source.path`.")
    note = describe_source(source).note
    if note and is_first_rank():
        warnings.warn(f"{note}. Check `source.path`, or go on if this is meant", OddSource, stacklevel=2)
    if options.first_label:
        source = counted_from(source, options.first_label)
    if options.targets:
        source = with_targets(source, options.targets)
    if options.keys is not None:
        source = with_keys(source, read_keys(options.keys))
    if options.limit is not None:
        source = first(source, options.limit)
    if not options.skip_unreadable:
        return source
    decoding = decoding_for(meaning, inputs, seen)
    return readable(source, decode=lambda sample: read_fully(sample, decoding), on_scan=on_scan)


def _open(options: SourceOptions, modality: Modality) -> Source:
    prefix = _find_prefix(options, modality)
    kind = prefix or _find_kind(options)
    _refuse_options_of_other_kinds(options, kind, of_a_modality=bool(prefix))
    if prefix:
        return modality.data_sets[prefix](options.path.removeprefix(f"{prefix}:"), options)
    if kind == "parquet":
        return open_parquet(
            options.path,
            fields=options.columns,
            label_column=options.label_column,
            key_column=options.key_column,
            class_names=options.class_names,
            label_vectors=options.label_vectors,
            are_sequences=options.label_sequences,
            answer_columns=options.answer_columns,
        )
    if kind == "datasets":
        return open_datasets(options.path.removeprefix(PREFIX), options)
    return open_folder(
        Path(options.path), class_names=options.class_names, kind=getattr(modality, "files", IMAGE_FILES)
    )


def _find_prefix(options: SourceOptions, modality: Modality) -> str:
    """Of the modality's own data sets; empty for a kind that all modalities share."""
    if options.kind not in ("auto", "folder", "parquet", "datasets") and options.kind not in modality.data_sets:
        raise InvalidOption(f"kind {options.kind!r} is not for samples of the modality {modality.name}. Change kind.")
    wanted = modality.data_sets if options.kind == "auto" else [options.kind]
    found = (prefix for prefix in wanted if prefix in modality.data_sets)
    starts = (prefix for prefix in found if options.kind == prefix or options.path.startswith(f"{prefix}:"))
    return next(starts, "")


def _find_kind(options: SourceOptions) -> Kind:
    if options.kind != "auto":
        return options.kind
    if options.path.startswith(PREFIX):
        return "datasets"
    return "folder" if Path(options.path).is_dir() and not find_parquet_files(options.path) else "parquet"


def _refuse_options_of_other_kinds(options: SourceOptions, kind: str, *, of_a_modality: bool) -> None:
    if not of_a_modality and (options.root is not None or (options.arguments and kind != "datasets")):
        others = "root is" if kind == "datasets" else "root and arguments are"
        raise InvalidOption(
            f"{options.path}: {others} for torchvision's data sets, and this is a source of kind {kind}. "
            f"Leave out `source.root`{'' if kind == 'datasets' else ' and `source.arguments`'}."
        )
    if kind not in ("parquet", "datasets") and options.answer_column:
        raise InvalidOption(
            f"{options.path}: answers are read from tables, and this is a source of kind {kind}. Leave out "
            f"`source.answer_column`."
        )
    if kind not in ("parquet", "datasets") and options.key_column is not None:
        raise InvalidOption(
            f"{options.path}: key_column is for tables, and a source of kind {kind} has keys of its own. Leave out "
            f"`source.key_column`."
        )
    if kind not in ("parquet", "datasets") and options.label_sequences:
        raise InvalidOption(
            f"{options.path}: a source of kind {kind} has no lists of labels. Leave out `source.label_sequences`."
        )
    if kind not in ("folder", "parquet", "datasets") and options.class_names:
        raise InvalidOption(
            f"{options.path}: class_names are for class folders and texts, and a source of kind {kind} brings its own. "
            f"Leave out `source.class_names`."
        )
