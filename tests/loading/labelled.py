"""Small pictures in a Parquet file, opened as a source, and a teacher's store of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softlab.modalities.opening import open_source
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import dump_teacher
from tests.sources.pictures import write_parquet
from tests.teacher.dumping import make_options, make_teacher

NUM_CLASSES = 4
CLASS_NAMES = ("ant", "bee", "cat", "dog")

Row = dict[str, Any]


def open_rows(path: Path, rows: Sequence[Row], *, class_names: Sequence[str] | None = CLASS_NAMES) -> Source:
    """A Parquet source; the label of `7.png` is 7 % 4."""
    labels: list[int | None] = [int(Path(row["path"]).stem) % NUM_CLASSES for row in rows]
    metadata = None
    if class_names is not None:
        features = {"label": {"names": list(class_names)}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    write_parquet(path, list(rows), labels=labels, metadata=metadata, row_group_rows=50)
    return open_source(SourceOptions(path=str(path)))


def dump_rows(out: Path, source: Source, **options: Any) -> Store:
    """The store of a small teacher, by default with all classes kept in float32."""
    values = {"k": NUM_CLASSES, "coding": "float32"} | options
    dump_teacher(make_teacher(num_classes=NUM_CLASSES), source, out, make_options(**values))
    return open_store(out)
