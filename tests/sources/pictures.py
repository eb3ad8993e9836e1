"""Small pictures, and folders and Parquet files made of them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from softlab.modalities.images.modality import MODALITY
from softlab.modalities.modality import decode_sample
from softlab.sources.source import Source

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(*, seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, *, form: str = "PNG") -> bytes:
    file = BytesIO()
    image.save(file, format=form)
    return file.getvalue()


def truncated_png() -> bytes:
    data = encoded(picture(size=(64, 64)))
    return data[: len(data) // 2]


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for key, data in files.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def animals(root: Path, *, per_class: int = 2) -> Path:
    """Class folders cat and dog, `per_class` pictures each."""
    names = [f"{animal}/{number}.png" for animal in ("cat", "dog") for number in range(per_class)]
    return write_folder(root, {name: encoded(picture(seed=seed)) for seed, name in enumerate(names)})


def write_parquet(
    path: Path,
    images: list[Any],
    *,
    labels: list[int | None] | None = None,
    metadata: dict[str, str] | None = None,
    row_group_rows: int = 2,
) -> Path:
    columns = {"image": pa.array(images, type=IMAGE_TYPE)}
    if labels is not None:
        columns["label"] = pa.array(labels, type=pa.int64())
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=row_group_rows)
    return path


def image_rows(count: int) -> list[dict[str, Any]]:
    return [{"bytes": encoded(picture(seed=number)), "path": f"{number}.png"} for number in range(count)]


def image_of(source: Source, index: int) -> Tensor:
    """One image of a source, uint8 [C, H, W]."""
    image_CHW: Tensor = decode_sample(source.read(index), MODALITY)
    return image_CHW
