"""Train and test below one path are two data sets: told by the names under which data sets are published."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from softlab.errors import SourceError

SPLITS = ("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval")

_STEM = re.compile(rf"^({'|'.join(SPLITS)})(?=[-_.]|$)", re.IGNORECASE)


def check_one_split(path: str, files: Sequence[Path], *, prefix: str = "") -> None:
    """Raises SourceError for files of several splits, with a glob for each of them, behind the prefix of its kind."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file), []).append(file)
    splits = [split for split in by_split if split]
    if len(splits) > 1:
        globs = " or ".join(f"`source.path = {prefix}{_glob(split, by_split[split])}`" for split in splits)
        raise SourceError(
            f"{path}: holds files of {len(splits)} splits ({', '.join(splits)}), and a store or a student that has "
            f"seen both can't be measured on either. Choose one: {globs}."
        )


def check_one_split_of_folders(root: Path, names: Sequence[str]) -> None:
    """Raises SourceError for class folders two or more of which are named like splits."""
    splits = [name for name in names if name.casefold() in SPLITS]
    if len(splits) > 1:
        ways = " or ".join(f"`source.path = {root / name}`" for name in splits[:3])
        raise SourceError(
            f"{root}: its folders {', '.join(splits)} are splits of a data set, not classes. Choose one: {ways}; if "
            f"they are classes all the same, name all of them as `source.class_names`."
        )


def _split_of(file: Path) -> str:
    """By the file's own name, or its folder's; empty where neither tells."""
    match = _STEM.match(file.name) or _STEM.match(file.parent.name)
    return match[1].lower() if match else ""


def _glob(split: str, files: Sequence[Path]) -> str:
    """Of the files of one split: those of their first folder."""
    folder = files[0].parent
    names = [file.name for file in files if file.parent == folder]
    if len(names) == 1:
        return str(files[0])
    start = names[0][: len(split) + 1] if _STEM.match(names[0]) else ""  # `train-` of train-00000-of-00002.parquet
    return f"{glob.escape(str(folder))}/{start}*{files[0].suffix}"
