"""A store's targets as a plain table with keys, for trees and other students that torch doesn't train."""

# Shape letters: B rows in a block, C classes, K entries kept (K <= C).

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from softlab.disk import disk_errors, put_in_place, sweep_beside, temporary_name
from softlab.errors import InvalidOption, StoreExists
from softlab.store.reader import Store

Targets = Literal["probabilities", "top_k", "argmax", "values"]
SUFFIXES = (".parquet", ".csv", ".npz")

BLOCK_NUMBERS = 1 << 22
"""Of a block of rows that is made at once: 16 MiB of float32."""

Columns = dict[str, NDArray[Any]]


def export_targets(
    store: Store,
    out: str | Path,
    *,
    targets: Targets = "probabilities",
    temperature: float = 1.0,
    view: int = 0,
    feature: str | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> int:
    """Write what a store says of each sample in one view as Parquet, CSV or npz; how many rows were written.

    `probabilities` are of all classes, at a temperature; those that the store doesn't keep share the tail equally.
    `top_k` are the kept `class_ids` and `log_probabilities`. `argmax` is the first class and its probability. `values`
    is the output `feature` of kind values, by default the first one. Each row has its `key`. `softlab import` reads all
    but `argmax` again. `on_rows(done, total)` is called after each block.

    Raises InvalidOption for targets that the store or the file can't hold, or a temperature below the lowest stored
    one; StoreExists where there is such a file.
    """
    out = Path(out)
    _check(store, out, targets=targets, view=view)
    if targets == "values":
        feature = feature or store.feature_names[0]
    blocks = _blocks(store, targets=targets, temperature=temperature, view=view, feature=feature, on_rows=on_rows)
    write = {".parquet": _write_parquet, ".csv": _write_csv, ".npz": _write_npz}[out.suffix.lower()]
    temporary = out.with_name(temporary_name(out.name))
    with disk_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep_beside(out)
        try:
            write(temporary, blocks, _names(store))
            put_in_place(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
    return store.num_samples


def _check(store: Store, out: Path, *, targets: Targets, view: int) -> None:
    if targets not in get_args(Targets):
        raise InvalidOption(f"targets {targets!r}: expected one of {', '.join(get_args(Targets))}.")
    if out.suffix.lower() not in SUFFIXES:
        raise InvalidOption(f"{out}: targets are written as {', '.join(SUFFIXES)}. Name a file with one of these.")
    if out.exists():
        raise StoreExists(f"{out}: is there already. Remove it, or name another file.")
    if not 0 <= view < store.num_views:
        raise InvalidOption(f"view {view}: {store.name} has views 0 to {store.num_views - 1}. Name one of them.")
    if targets == "values" and not store.feature_names:
        raise InvalidOption(f"{store.name}: holds no values. Export its probabilities.")
    if targets != "values" and not store.has_labels:
        raise InvalidOption(f"{store.name}: holds values alone, no classes. Say `--targets values`.")
    if targets != "values" and store.labels.units:
        raise InvalidOption(f"{store.name}: has several rows a sample, and a table has one. Read it in Python.")
    if targets == "top_k" and out.suffix.lower() == ".csv":
        raise InvalidOption(f"{out}: a CSV file holds no lists. Write top_k as Parquet or npz.")


def _names(store: Store) -> tuple[str, ...]:
    if not store.has_labels:
        return ()
    return store.class_names or tuple(map(str, range(store.num_classes)))


def _blocks(
    store: Store,
    *,
    targets: Targets,
    temperature: float,
    view: int,
    feature: str | None,
    on_rows: Callable[[int, int], None] | None,
) -> Iterator[Columns]:
    keys, total = store.read_samples().keys, store.num_samples
    rows = max(BLOCK_NUMBERS // (store.num_classes if store.has_labels else 1024), 1)
    for start in range(0, total, rows):
        samples = np.arange(start, min(start + rows, total))
        block = (
            _values(store, samples, view, feature) if feature else _targets(store, samples, view, targets, temperature)
        )
        yield {"key": np.array(list(keys[start : start + len(samples)]))} | block
        if on_rows is not None:
            on_rows(start + len(samples), total)


def _values(store: Store, samples: NDArray[np.int64], view: int, feature: str) -> Columns:
    return {"values": store.read_features(feature, samples, view=view).numpy()}


def _targets(store: Store, samples: NDArray[np.int64], view: int, targets: Targets, temperature: float) -> Columns:
    from softlab.labels.dense import dense_probabilities  # which imports torch
    from softlab.labels.losses.teacher import head_log_probabilities

    labels = store.read(samples, view=view)
    if targets == "probabilities":
        return {"probabilities": dense_probabilities(labels, temperature=temperature).numpy()}
    if labels.head == "sigmoid":
        raise InvalidOption(f"{store.name}: is multi-label, each class a choice of its own. Export its probabilities.")
    log_p_BK = head_log_probabilities(labels, temperature=temperature, log_tail_B=labels.log_tail_at(temperature))
    if targets == "top_k":
        return {"class_ids": labels.class_ids_BK.numpy(), "log_probabilities": log_p_BK.numpy()}
    first_B = labels.class_ids_BK[:, 0].numpy()
    named = {} if store.class_names is None else {"class": np.array(store.class_names)[first_B]}
    return {"class_id": first_B, **named, "max_prob": log_p_BK[:, 0].exp().numpy()}


class _Writer(Protocol):
    """Of Arrow."""

    def write_table(self, table: Any) -> None: ...

    def close(self) -> None: ...


def _write_parquet(path: Path, blocks: Iterator[Columns], names: tuple[str, ...]) -> None:
    def open_writer(schema: Any) -> _Writer:
        writer: _Writer = pq.ParquetWriter(path, schema)
        return writer

    _write_tables(blocks, _as_lists, open_writer)


def _write_csv(path: Path, blocks: Iterator[Columns], names: tuple[str, ...]) -> None:
    def open_writer(schema: Any) -> _Writer:
        writer: _Writer = pa.csv.CSVWriter(path, schema)
        return writer

    _write_tables(blocks, lambda block: _as_columns(block, names), open_writer)


def _write_tables(
    blocks: Iterator[Columns], shape: Callable[[Columns], Mapping[str, Any]], open_writer: Callable[[Any], _Writer]
) -> None:
    tables = (pa.table(dict(shape(block))) for block in blocks)
    first = next(tables)
    with closing(open_writer(first.schema)) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _write_npz(path: Path, blocks: Iterator[Columns], names: tuple[str, ...]) -> None:
    """Whole: numpy knows no other way."""
    parts = list(blocks)
    arrays: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if "probabilities" in arrays:
        arrays["class_names"] = np.array(names)
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _as_lists(block: Columns) -> Mapping[str, Any]:
    return {
        name: pa.array(list(array.reshape(len(array), -1))) if array.ndim > 1 else pa.array(array)
        for name, array in block.items()
    }


def _as_columns(block: Columns, names: tuple[str, ...]) -> Mapping[str, Any]:
    """One column a class, or a number of a vector."""
    columns: dict[str, Any] = {}
    for name, array in block.items():
        if array.ndim == 1:
            columns[name] = array
            continue
        flat = array.reshape(len(array), -1)
        heads = names if name == "probabilities" else tuple(str(place) for place in range(flat.shape[1]))
        columns |= dict(zip(heads, flat.T, strict=True))
    return columns
