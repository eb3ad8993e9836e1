"""Small pictures with captions, as fields and as a file."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from softlab.sources.source import Raw

CAPTIONS = (
    ("a red apple", "an apple that is red"),
    ("the blue sea",),
    ("a green leaf", "leaf", "something green"),
    ("grey sky",),
    ("a yellow sun", "sun"),
    ("a black cat",),
)


def picture(index: int, *, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def fields(captions: Sequence[Raw] = CAPTIONS) -> list[Mapping[str, Raw]]:
    return [{"image": picture(index), "text": texts} for index, texts in enumerate(captions)]


def write_pairs(path: Path, *, times: int = 4, captions: Sequence[Sequence[str] | None] = CAPTIONS) -> Path:
    """Each picture and its captions several times, with other pixels."""
    count = times * len(captions)
    columns = {
        "key": [f"pair-{index:02d}" for index in range(count)],
        "image": [picture(index) for index in range(count)],
        "caption": pa.array([captions[index % len(captions)] for index in range(count)], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), path)
    return path
