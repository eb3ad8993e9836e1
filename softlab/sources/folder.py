"""A folder with one folder of images for each class."""

# Shape letters: N samples.

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlab.errors import SourceError, suggest
from softlab.identity import fields_hash
from softlab.keys import Keys
from softlab.sources.source import Sample, SkippedSample, source_in_a_line, unreadable

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def open_folder(root: Path, *, class_names: tuple[str, ...] = ()) -> "FolderSource":
    """All images in class folders of `root`, at any depth, ordered by their path; hidden files are left out.

    Raises SourceError if there are none, or if the class folders are not those of `class_names`.
    """
    found = _class_folders(root)
    _check_class_folders(root, found, class_names)
    class_names = class_names or tuple(found)
    ordered = sorted(class_names, key=lambda name: f"{name}/")  # the order of whole paths, one class at a time
    keys = [_class_keys(root, name) for name in ordered]
    if not any(keys):
        raise SourceError(
            f"{root}: no images in {len(found)} class folders. Expected files such as {root}/CLASS/IMAGE.png "
            f"({', '.join(IMAGE_SUFFIXES)}): check `source.path`."
        )
    label_of = {name: label for label, name in enumerate(class_names)}
    labels, counts = [label_of[name] for name in ordered], [len(each) for each in keys]
    return FolderSource(
        name=f"folder:{root.absolute().name}",
        root=root,
        keys=Keys.join(keys),
        targets={"label": np.repeat(np.array(labels, dtype=np.int64), counts)},
        class_names=class_names,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FolderSource:
    """Keys are paths relative to `root`; the field `image` holds the bytes of the file."""

    name: str
    root: Path
    keys: Sequence[str]
    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...]
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
            fields = {"image": path.read_bytes()}
        except OSError as error:
            raise unreadable(error, key=key, place=str(path)) from error
        return Sample(index=index, key=key, fields=fields, content_hash=fields_hash(fields), place=str(path))


def _class_folders(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise SourceError(
            f"{root}: {error.strerror}. Expected a folder of class folders: check `source.path`."
        ) from error


def _check_class_folders(root: Path, found: Sequence[str], class_names: tuple[str, ...]) -> None:
    if not class_names:
        return
    for name in found:
        if name not in class_names:
            raise SourceError(
                f"{root}: the folder {name!r} is none of the {len(class_names)} class names. "
                f"{suggest(name, class_names)} Rename it, or add it to `source.class_names`."
            )
    for name in class_names:
        if name not in found:
            raise SourceError(
                f"{root}: there is no folder for the class {name!r}. {suggest(name, found)} "
                f"Add it, or correct `source.class_names`."
            )


def _class_keys(root: Path, class_name: str) -> Keys:
    keys = sorted(_image_paths(root, class_name))
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


def _image_paths(root: Path, class_name: str) -> Iterator[str]:
    for folder, _, files in os.walk(root / class_name, followlinks=True):
        relative = Path(folder).relative_to(root).as_posix()
        for file in files:
            if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith("."):
                yield f"{relative}/{file}"
