"""Predictions in npz files, and in Python as batches of arrays."""

import errno
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from blake3 import blake3
from numpy.lib import format
from numpy.typing import NDArray

from softlab.errors import SourceError
from softlab.keys import Keys
from softlab.predictions.columns import ALSO_KEYS, CLASS_IDS, CLASS_NAMES, CONTENT_HASH, VIEW, Columns, columns_of
from softlab.predictions.memory import check_room
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
    wanted = {options.column, options.key_column, *ALSO_KEYS, CLASS_IDS, CLASS_NAMES, CONTENT_HASH, VIEW}
    try:
        with ZipFile(file) as opened:
            members = {each.filename.removesuffix(".npy"): each for each in opened.infolist()}
            named = {name: each for name, each in members.items() if options.column is None or name in wanted}
            check_room(sum(each.file_size for each in named.values()))
            arrays = {name: _read_array(opened, each) for name, each in named.items()}
    except Exception as error:  # damaged files raise zlib.error, NotImplementedError, MemoryError and many others
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")
        raise SourceError(f"{file}: can't be read as npz: {reason}. Check the file, or get it again.") from error
    return columns_of(arrays, options, where=str(file))


def _read_array(opened: ZipFile, member: ZipInfo) -> NDArray[Any]:
    """Raises ValueError for an array that isn't as large as its part of the file, before there is room for it."""
    with opened.open(member) as data:
        version = format.read_magic(data)
        read_header = format.read_array_header_1_0 if version == (1, 0) else format.read_array_header_2_0
        shape, _, dtype = read_header(data)
        told, found = math.prod(shape) * max(dtype.itemsize, 1), member.file_size - data.tell()
    if told != found and not dtype.hasobject:
        raise ValueError(f"{member.filename} says it has {told:,} bytes, and has {found:,}")
    with opened.open(member) as data:
        array: NDArray[Any] = format.read_array(data, allow_pickle=False)
        data.read(1)  # the checksum is compared at the end
    return array


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
    beside = {CLASS_IDS: columns.class_ids_NK, VIEW: columns.views_N}
    numbers = {**columns.numbers, **{name: array for name, array in beside.items() if array is not None}}
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
