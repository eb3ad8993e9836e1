"""Opens whichever kind of data set the options name."""

from collections.abc import Callable
from pathlib import Path

from softlab.errors import InvalidOption, SourceError
from softlab.keys import read_keys
from softlab.sources.folder import open_folder
from softlab.sources.options import Kind, SourceOptions
from softlab.sources.parquet import find_parquet_files, open_parquet
from softlab.sources.source import Source
from softlab.sources.subset import first, readable, with_keys, with_targets
from softlab.sources.torchvision_sets import open_torchvision

TORCHVISION_PREFIX = "torchvision:"


def open_source(options: SourceOptions, *, on_scan: Callable[[int, int], None] | None = None) -> Source:
    """The data set of the options, nothing decoded yet. Raises SourceError or InvalidOption.

    With `skip_unreadable` every sample is decoded once, and `on_scan(done, total)` called after each; the limit counts
    samples before the unreadable ones are left out.
    """
    source = _open(options)
    if not len(source):
        raise SourceError(f"{source.name}: no samples. Check --source.")
    if options.targets:
        source = with_targets(source, options.targets)
    if options.keys is not None:
        source = with_keys(source, read_keys(options.keys))
    if options.limit is not None:
        source = first(source, options.limit)
    return readable(source, on_scan=on_scan) if options.skip_unreadable else source


def _open(options: SourceOptions) -> Source:
    kind = _find_kind(options)
    _refuse_options_of_other_kinds(options, kind)
    if kind == "torchvision":
        name = options.path.removeprefix(TORCHVISION_PREFIX)
        return open_torchvision(name, root=options.root, arguments=options.arguments)
    if kind == "parquet":
        return open_parquet(options.path, image_column=options.image_column, label_column=options.label_column)
    return open_folder(Path(options.path), class_names=options.class_names)


def _find_kind(options: SourceOptions) -> Kind:
    if options.kind != "auto":
        return options.kind
    if options.path.startswith(TORCHVISION_PREFIX):
        return "torchvision"
    return "folder" if Path(options.path).is_dir() and not find_parquet_files(options.path) else "parquet"


def _refuse_options_of_other_kinds(options: SourceOptions, kind: Kind) -> None:
    if kind != "torchvision" and (options.root is not None or options.arguments):
        raise InvalidOption(
            f"{options.path}: root and arguments are for torchvision's data sets, and this is a source of kind {kind}. "
            f"Leave out --source-root and --source-arguments."
        )
    if kind != "folder" and options.class_names:
        raise InvalidOption(
            f"{options.path}: class_names are for class folders, and a source of kind {kind} brings its own. "
            f"Leave out --source-class-names."
        )
