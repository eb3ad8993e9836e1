"""The one file that knows Hugging Face's `datasets`: from an address to one table of rows.

Of the library only its readers and its memory-mapped rows are used. Its decoders depend on what is installed, so cells
are taken as they lie in Arrow; its fingerprint changes with a copy or a touch, so it identifies nothing here.
"""

import glob
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softlab.errors import InvalidOption, SourceError, suggest
from softlab.sources.splits import check_one_split

PREFIX = "datasets:"
HUB = "hub"
SAVED = ("state.json", "dataset_dict.json")
"""In a folder that `save_to_disk` wrote: of one data set, of several splits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """One split, whose rows are Arrow tables: `rows[[5, 2]]`."""

    rows: Any
    class_names: Mapping[str, tuple[str, ...]]
    """Of the columns that the library knows as class labels, or as lists of them."""

    folder: Path | None
    """That its files were looked for in."""


def load_rows(address: str, arguments: Mapping[str, object]) -> Loaded:
    """The rows at FOLDER, READER:PATH or hub:OWNER/NAME, memory-mapped.

    Raises InvalidOption for an unknown reader or wrong arguments, SourceError where nothing is there, it can't be read
    or it has several splits.
    """
    library = _library(address)
    if arguments.get("streaming"):
        raise InvalidOption(
            f"{PREFIX}{address}: a streaming set has no length and no random access, so that nothing of it can be "
            f"stored or shuffled. Leave out `source.arguments.streaming`: rows are read from disk as they are needed. "
            f"Of a set that is too large, save a part with save_to_disk and give that folder."
        )
    reader, _, rest = address.partition(":")
    place: dict[str, Any] = {}
    if not rest:
        found = _load_saved(library, Path(address), arguments)
    else:
        place = {} if reader == HUB else _find_files(library, reader, rest)
        with _told(address), _uncounted(library, is_hub=reader == HUB):
            found = library.load_dataset(rest if reader == HUB else reader, **place, **arguments)
    rows, folder = _one_split(address, found), place.get("data_dir")
    names = {
        column: tuple(each.names)
        for column, feature in rows.features.items()
        if isinstance(each := getattr(feature, "feature", feature), library.ClassLabel)
    }
    return Loaded(
        rows=rows.with_format("arrow"), class_names=names, folder=None if folder is None else Path(folder).resolve()
    )


def _library(address: str) -> Any:
    try:
        import datasets
        import datasets.packaged_modules
    except ImportError as error:
        raise InvalidOption(
            f"{PREFIX}{address}: needs Hugging Face's datasets, which isn't installed. Install it: "
            f"pip install 'softlab[datasets]'."
        ) from error
    return datasets


def _load_saved(library: Any, folder: Path, arguments: Mapping[str, object]) -> Any:
    if not any((folder / name).is_file() for name in SAVED):
        found = "no such folder" if not folder.is_dir() else "a folder that save_to_disk didn't write"
        raise SourceError(
            f"{PREFIX}{folder}: {found}. Give one that it wrote, or name a reader and a path, such as "
            f"{PREFIX}csv:FILE.csv, {PREFIX}json:*.jsonl, {PREFIX}imagefolder:FOLDER, or {PREFIX}{HUB}:OWNER/NAME for "
            f"a data set of the hub."
        )
    others = [name for name in arguments if name != "split"]
    if others:
        raise InvalidOption(
            f"{PREFIX}{folder}: what save_to_disk wrote takes no argument {others[0]!r}. Leave out "
            f"`source.arguments.{others[0]}`."
        )
    with _told(str(folder)):
        saved = library.load_from_disk(str(folder))
    split = arguments.get("split")
    if split is None:
        return saved
    if not isinstance(saved, dict) or split not in saved:
        known = ", ".join(map(repr, saved)) if isinstance(saved, dict) else "none, one data set"
        raise InvalidOption(
            f"{PREFIX}{folder}: no split {split!r} (there are: {known}). Correct `source.arguments.split`."
        )
    return saved[split]


def _find_files(library: Any, reader: str, path: str) -> dict[str, Any]:
    """Which files a reader is to read, in the order of their names."""
    readers = [module.name for module in pkgutil.iter_modules(library.packaged_modules.__path__)]
    if reader not in readers:
        raise InvalidOption(
            f"{PREFIX}{reader}:{path}: datasets has no reader {reader!r}. {suggest(reader, readers)} A data set of the "
            f"hub is written {PREFIX}{HUB}:OWNER/NAME."
        )
    if "://" in path:
        return {"data_files": path}
    if Path(path).is_dir():
        return {"data_dir": path}
    files = sorted(Path(match) for match in glob.glob(path, recursive=True))
    if not files:
        raise SourceError(f"{PREFIX}{reader}:{path}: no such file or folder. Check `source.path`.")
    check_one_split(path, files, prefix=f"{PREFIX}{reader}:")
    return {"data_files": [str(file) for file in files]}


def _one_split(address: str, found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    if len(found) > 1:
        splits = ", ".join(f"{name} ({len(rows):,} rows)" for name, rows in found.items())
        raise SourceError(
            f"{PREFIX}{address}: has the splits {splits}, and a store or a student that has seen all of them can't be "
            f"measured on any. Choose one, as `source.arguments.split = {next(iter(found))}`."
        )
    return next(iter(found.values()))


@contextmanager
def _told(address: str) -> Iterator[None]:
    """What the library raises as one line; each of its readers raises what it likes."""
    try:
        yield
    except Exception as error:
        raise SourceError(
            f"{PREFIX}{address}: datasets can't read it: {_reason(error)}. Check `source.path`, and "
            f"`source.arguments`, which are the reader's own."
        ) from error


def _reason(error: BaseException) -> str:
    """Of the first error of a chain, as those after it only say that there was one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).partition("\n")[0].rstrip(".:")


@contextmanager
def _uncounted(library: Any, *, is_hub: bool) -> Iterator[None]:
    """Of files on this machine nothing is told to anybody: the library would ask a server to count each opening, and
    wait for it up to 3 s."""
    counts = library.config.HF_UPDATE_DOWNLOAD_COUNTS
    library.config.HF_UPDATE_DOWNLOAD_COUNTS = counts and is_hub
    try:
        yield
    finally:
        library.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
