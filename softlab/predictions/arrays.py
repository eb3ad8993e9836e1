"""Predictions in npz files, and in Python as batches of arrays."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from softlab.errors import SourceError
from softlab.keys import Keys
from softlab.predictions.columns import ALSO_KEYS, CLASS_IDS, CLASS_NAMES, CONTENT_HASH, Columns, columns_of
from softlab.predictions.options import PredictionOptions

IN_PYTHON = "predictions"
"""What batches of no file are called in messages."""


def read_npz(file: Path, options: PredictionOptions) -> Columns:
    """The arrays of a file that `numpy.savez` wrote; nothing is unpickled."""
    if file.suffix.lower() == ".npy":
        raise SourceError(
            f"{file}: holds one array without keys. Write the keys of its rows beside it: "
            f"numpy.savez(FILE, key=keys, logits=array)."
        )
    try:
        with np.load(file, allow_pickle=False) as opened:
            wanted = {options.column, options.key_column, *ALSO_KEYS, CLASS_IDS, CLASS_NAMES, CONTENT_HASH}
            names = [name for name in opened.files if options.column is None or name in wanted]
            arrays = {name: opened[name] for name in names}
    except (ValueError, OSError, EOFError, BadZipFile, AttributeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(f"{file}: can't be read as npz: {reason}. Check the file, or get it again.") from error
    return columns_of(arrays, options, where=str(file))


def read_batches(batches: Iterable[Mapping[str, Any]], options: PredictionOptions) -> Columns:
    """Batches of arrays or tensors by name, one behind the other: {"key": [..], "logits": [..]}."""
    parts: dict[str, list[NDArray[Any]]] = {}
    names: tuple[str, ...] | None = None
    for number, batch in enumerate(batches, start=1):
        arrays = dict(batch)
        if CLASS_NAMES in arrays:
            names = tuple(map(str, arrays.pop(CLASS_NAMES)))
        if parts and arrays.keys() != parts.keys():
            raise SourceError(
                f"{IN_PYTHON}: batch {number:,} has {', '.join(arrays)}, the first one {', '.join(parts)}. Give all "
                f"batches the same arrays."
            )
        for name, value in arrays.items():
            parts.setdefault(name, []).append(_host_array(value))
    if not parts:
        raise SourceError(f"{IN_PYTHON}: there are no batches. Give at least one.")
    whole: dict[str, Any] = {name: _joined(name, arrays) for name, arrays in parts.items()}
    return columns_of(whole | ({} if names is None else {CLASS_NAMES: names}), options, where=IN_PYTHON)


def columns_digest(columns: Columns) -> str:
    """Of predictions that are in no file, 64 hex digits: their keys, names and numbers."""
    hasher = blake3()
    for key in columns.keys or Keys([]):
        hasher.update(key.encode() + b"\0")
    for name in columns.class_names or ():
        hasher.update(name.encode() + b"\1")
    numbers = dict(columns.numbers) | ({} if columns.class_ids_NK is None else {CLASS_IDS: columns.class_ids_NK})
    for name, array in sorted(numbers.items()):
        hasher.update(f"{name} {array.dtype.str} {list(array.shape)}".encode())
        hasher.update(np.ascontiguousarray(array).view(np.uint8).data)
    return hasher.hexdigest()


def _host_array(value: Any) -> NDArray[Any]:
    """Of a tensor on any device, too, and of bfloat16, which numpy doesn't have."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def _joined(name: str, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        raise SourceError(
            f"{IN_PYTHON}: `{name}` has another shape in other batches. Give all rows one shape."
        ) from error
