"""A small table of real kinds: numbers of different sizes, windows, categories."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import softlab

COLOURS = ("blue", "green", "red")


def make_table(*, count: int = 60, seed: int = 0) -> dict[str, Any]:
    """The label is whether a row is heavy, or red; the windows rise or fall with it."""
    random = np.random.default_rng(seed)
    weight = random.normal(5_000, 900, count)
    colour = random.choice(COLOURS, count)
    label = ((weight > 5_000) | (colour == "red")).astype(np.int64)
    rising = np.where(label == 1, 1.0, -1.0)[:, None] * np.linspace(-1, 1, 12)
    return {
        "weight": weight,
        "rooms": random.integers(1, 6, count),
        "colour": colour,
        "x": list(rising + random.normal(0, 0.3, (count, 12))),
        "y": list(random.normal(20, 3, (count, 12))),
        "label": label,
    }


def write_table(path: Path, columns: dict[str, Any], *fields: str, **options: Any) -> softlab.SourceOptions:
    """A Parquet file, and how it is opened with these columns as fields of the same names."""
    pq.write_table(pa.table(columns), path)
    return softlab.SourceOptions(path=str(path), fields={name: name for name in fields}, **options)
