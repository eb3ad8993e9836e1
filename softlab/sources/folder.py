"""A folder with one folder of files for each class: images, or what a modality says."""

# Shape letters: N samples.

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlab.errors import SourceError, readable, suggest
from softlab.identity import fields_hash
from softlab.keys import Keys
from softlab.sources.file_kind import IMAGE_FILES, FileKind
from softlab.sources.folder_walk import Walk
from softlab.sources.source import Sample, SkippedSample, source_in_a_line, unreadable
from softlab.sources.splits import check_one_split_of_folders
from softlab.sources.summary import Found, count_suffixes


def open_folder(root: Path, *, class_names: tuple[str, ...] = (), kind: FileKind = IMAGE_FILES) -> "FolderSource":
    """All files of the kind in class folders of `root`, at any depth, ordered by their path; hidden files and folders
    are left out, and so are those that systems and programs leave behind. Where there are no class folders, those of
    `root` itself, without labels.

    A class of `class_names` may have no folder. Raises SourceError if there are no such files, if a folder can't be
    listed, if a class folder is none of `class_names`, or if the class folders are splits (train, test).
    """
    walk = Walk(root, kind)
    found = walk.folders()
    _check_class_folders(root, found, class_names)
    if not class_names:
        check_one_split_of_folders(root, found)
    keys = {name: _class_keys(root, walk, name) for name in found}
    loose = walk.loose_files()
    if not any(keys.values()):
        if loose and not class_names:
            return _without_labels(root, walk, loose)
        raise SourceError(_no_files(root, found, walk))
    class_names = class_names or tuple(found)
    ordered = sorted(found, key=lambda name: f"{name}/")  # the order of whole paths, one class at a time
    label_of = {name: label for label, name in enumerate(class_names)}
    labels, counts = [label_of[name] for name in ordered], [len(keys[name]) for name in ordered]
    empty = tuple(name for name in class_names if not keys.get(name))
    return FolderSource(
        name=f"folder:{readable(root.absolute().name)}",
        root=root,
        keys=Keys.join([keys[name] for name in ordered]),
        targets={"label": np.repeat(np.array(labels, dtype=np.int64), counts)},
        class_names=class_names,
        field_names=(kind.field,),
        found=walk.found(empty_classes=empty, loose_files=len(loose)),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FolderSource:
    """Keys are paths relative to `root`; the only field, `image` of images, holds the bytes of the file."""

    name: str
    root: Path
    keys: Sequence[str]
    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...] | None
    found: Found
    skipped: tuple[SkippedSample, ...] = ()
    field_names: tuple[str, ...] = ("image",)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return source_in_a_line(self)

    def read(self, index: int) -> Sample:
        key = self.keys[index]
        path = self.root / key
        try:
            fields = {self.field_names[0]: path.read_bytes()}
        except OSError as error:
            raise unreadable(error, key=key, place=str(path)) from error
        return Sample(index=index, key=key, fields=fields, content_hash=fields_hash(fields), place=str(path))


def _without_labels(root: Path, walk: Walk, names: Sequence[str]) -> FolderSource:
    keys = sorted(names)
    _check_encoding(root, keys)
    return FolderSource(
        name=f"folder:{readable(root.absolute().name)}",
        root=root,
        keys=Keys(keys),
        targets={},
        class_names=None,
        field_names=(walk.kind.field,),
        found=walk.found(),
    )


def _no_files(root: Path, found: Sequence[str], walk: Walk) -> str:
    others = Counter(walk.found().other_suffixes)
    there = f" (there are: {count_suffixes(others)})" if others else ""
    return (
        f"{root}: no {walk.kind.name}s in {len(found)} class folders{there}. Expected files such as "
        f"{root}/CLASS/{walk.kind.example} ({', '.join(walk.kind.suffixes)}): check `source.path`."
    )


def _check_class_folders(root: Path, found: Sequence[str], class_names: tuple[str, ...]) -> None:
    for name in found:
        if class_names and name not in class_names:
            raise SourceError(
                f"{root}: the folder {name!r} is none of the {len(class_names)} class names. "
                f"{suggest(name, class_names)} Rename it, or add it to `source.class_names`."
            )


def _class_keys(root: Path, walk: Walk, class_name: str) -> Keys:
    keys = sorted(walk.files(class_name))
    _check_encoding(root, keys)
    return Keys(keys)


def _check_encoding(root: Path, keys: Sequence[str]) -> None:
    joined = "\0".join(keys)
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        key = keys[joined.count("\0", 0, error.start)]
        raise SourceError(
            f"{root}: the file name {key!r} is not UTF-8, so it is not the same on every machine. Rename it."
        ) from error
