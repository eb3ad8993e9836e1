"""Reads predictions, whatever they are in."""

import glob
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from softlab.errors import SourceError
from softlab.predictions.arrays import IN_PYTHON, columns_digest, read_batches, read_npz
from softlab.predictions.columns import Columns
from softlab.predictions.jsonl import read_jsonl
from softlab.predictions.options import PredictionOptions
from softlab.predictions.tables import read_csv, read_parquet

Predictions = str | Path | Iterable[Mapping[str, Any]]
"""A file, a folder or glob of Parquet files, or batches of arrays by name."""

SUFFIXES = (".parquet", ".csv", ".npz", ".jsonl", ".ndjson")


def read_predictions(
    predictions: Predictions, options: PredictionOptions, *, class_names: Sequence[str] | None
) -> tuple[Columns, str]:
    """What they hold, and the hash of all of it, 64 hex digits. `class_names` are those of the source, or given ones,
    for predictions that tell classes by name.

    Raises SourceError for a file that isn't there, of an unknown kind, or damaged.
    """
    if not isinstance(predictions, str | Path):
        columns = read_batches(predictions, options)
        return columns, columns_digest(columns)
    files = _find(str(predictions))
    before = _digest(files)
    columns = _read(files, options, where=str(predictions), class_names=class_names)
    if _digest(files) != before:
        raise SourceError(f"{predictions}: was changed while it was read. Wait until it is written, then import again.")
    return columns, before


def name_of(predictions: Predictions) -> str:
    """As a manifest tells them."""
    return Path(predictions).name if isinstance(predictions, str | Path) else IN_PYTHON


def _read(
    files: Sequence[Path], options: PredictionOptions, *, where: str, class_names: Sequence[str] | None
) -> Columns:
    first, suffix = files[0], files[0].suffix.lower()
    if suffix == ".parquet":
        return read_parquet(files, options, where=where)
    if len(files) > 1:
        raise SourceError(f"{where}: {len(files):,} files, and only Parquet may have several parts. Name one file.")
    if suffix == ".csv":
        return read_csv(first, options)
    if suffix in (".jsonl", ".ndjson"):
        return read_jsonl(first, options, class_names=class_names)
    return read_npz(first, options)


def _find(path: str) -> list[Path]:
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).glob("*.parquet") if file.is_file())
    else:
        found = [Path(path)] if Path(path).is_file() else sorted(map(Path, glob.glob(path)))
        files = [file for file in found if file.is_file()]  # what is no file may have no end
    if not files:
        raise SourceError(f"{path}: there is no such file of predictions. Expected one of {', '.join(SUFFIXES)}.")
    odd = next((file for file in files if file.suffix.lower() not in (*SUFFIXES, ".npy")), None)
    if odd is not None:
        raise SourceError(
            f"{odd}: predictions are read from {', '.join(SUFFIXES)}. Write them as one of these, or give batches of "
            f"arrays to `softlab.import_predictions` in Python."
        )
    return files


def _digest(files: Sequence[Path]) -> str:
    """BLAKE3 of one file, or of those of several."""
    digests = [blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest() for file in files]
    return digests[0] if len(digests) == 1 else blake3("".join(digests).encode()).hexdigest()
