"""Reads the files of training runs that others made, and says what is wrong with one that can't be used."""

import errno
import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from softlab.errors import InvalidOption

Read = TypeVar("Read")


def read_file(path: Path) -> bytes | None:
    """None if there is no such file. Raises InvalidOption if it can't be read."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError(errno.EINVAL, "is no plain file")  # a device may have no end
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidOption(
            f"{path}: can't be read: {error.strerror}. Check its permissions, or leave the run out."
        ) from error


def parse(text: bytes, kind: type[Read], *, where: Path | str) -> Read:
    """What a file's JSON says. Raises InvalidOption for what is no JSON, or says something else."""
    try:
        value = json.loads(text)  # msgspec's own parser takes no NaN, which a student in trouble has
    except (ValueError, RecursionError) as error:
        raise damaged(where, f"not valid JSON: {error}") from error
    return convert(value, kind, where=where)


def convert(value: Any, kind: type[Read], *, where: Path | str) -> Read:
    """A value of JSON as what it must be."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidOption(
            f"{where}: not what a training run of this softlab writes: {error}. Make the report with the softlab that "
            f"made the run, or leave the run out."
        ) from error


def damaged(where: Path | str, what: str) -> InvalidOption:
    """To be raised for a file that was right once."""
    return InvalidOption(f"{where}: {what}. Get this file again from where the run was made, or leave the run out.")
