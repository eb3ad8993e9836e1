"""How many bytes a store has for each row, and how long it takes to open."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from softlab.bench.machine import open_on_disk
from softlab.bench.timing import rates
from softlab.manifest import Manifest, TokensReadRecord
from softlab.store.known_formats import format_named


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreFigures:
    """Size and opening time of a finished store."""

    num_rows: int
    """Of all views."""

    num_shards: int
    open_seconds: float
    """Until the first row can be read; includes decoding and checking the manifest."""

    bytes_per_row: dict[str, float]
    """Compressed bytes of `labels`, of each `features/NAME`, and of `all` files with the table of samples. Further
    outputs of kind `classes` are `labels/NAME`."""


def measure_store(path: str | Path, *, rounds: int = 3) -> StoreFigures:
    """The figures of a store; the opening time is the median over `rounds`. Raises as `open_on_disk`."""
    manifest = open_on_disk(path).manifest
    opens = rates({"open": lambda: 1 if open_on_disk(path) else 0}, rounds=rounds)["open"]
    num_rows = manifest.num_rows
    return StoreFigures(
        num_rows=num_rows,
        num_shards=len(manifest.shards),
        open_seconds=1 / opens,
        bytes_per_row={name: total / num_rows for name, total in _bytes_of_groups(manifest).items()},
    )


def _bytes_of_groups(manifest: Manifest) -> Counter[str]:
    format, titles, total = format_named(manifest.storage.format), _titles(manifest), Counter[str]()
    for shard, record in zip(manifest.grid, manifest.shards, strict=True):
        groups = {format.path_of(field, shard): field.group for field in manifest.storage.fields}
        for file in record.files:
            total[titles[groups[file.path]]] += file.bytes
    total["all"] = sum(file.bytes for file in manifest.files)
    return total


def _titles(manifest: Manifest) -> dict[str, str]:
    """What users call the arrays of each output."""
    titles = {output.name: f"labels/{output.name}" for output in manifest.classes}
    titles |= {output.name: f"features/{output.name}" for output in manifest.values}
    titles |= {output.name: "labels" for output in manifest.classes[:1]}
    titles |= {output.name: "tokens read" for output in manifest.outputs if isinstance(output, TokensReadRecord)}
    return {group: titles[output.name] for output in manifest.outputs for group in manifest.groups_of(output)}
