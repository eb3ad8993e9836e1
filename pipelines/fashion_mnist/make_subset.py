"""Write the demo's data: 10,000 training and 2,000 test images of Fashion-MNIST as Parquet, the same bytes every time.

    python pipelines/fashion_mnist/make_subset.py --raw FOLDER_WITH_THE_FOUR_IDX_FILES

Sample n has label n % 10, so that a beginning of any multiple of 10 samples is balanced. The training images are among
the 55,000 that the teacher was trained on; the test images are from the official test set. `--full FOLDER` writes all
60,000 and 10,000 images in their original order instead, the teacher's 5,000 validation images among them.
"""

import argparse
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from raw import CLASS_NAMES, read_split, validation_split

FILE_NAME = "{split}-00000-of-00001.parquet"
IMAGES_PER_CLASS = {"train": 1_000, "test": 200}
FEATURES = {"image": {"_type": "Image"}, "label": {"names": CLASS_NAMES, "_type": "ClassLabel"}}
SCHEMA = pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="folder with the four .gz files; default: torchvision downloads them")
    parser.add_argument("--out", type=Path, default=Path("data/fashion_mnist"))
    parser.add_argument("--full", type=Path, metavar="FOLDER", help="write all images to this folder instead")
    options = parser.parse_args()

    for split in ("train", "test"):
        images, labels = read_split(options.raw, split=split)
        ids = np.arange(len(labels)) if options.full else choose(labels, split=split)
        path = (options.full or options.out) / split / FILE_NAME.format(split=split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            as_table(images, labels, ids, split=split),
            path,
            compression="zstd",
            row_group_size=2_000,
            write_page_checksum=True,
        )
        print(f"{path}: {len(ids):,} images, {path.stat().st_size:,} bytes")


def choose(labels: NDArray[np.int64], *, split: str) -> NDArray[np.int64]:
    """Image numbers, as many of each class, at random under a fixed seed; the classes take turns."""
    candidates = validation_split(len(labels), held_out=5_000)[0] if split == "train" else np.arange(len(labels))
    order = np.random.Generator(np.random.Philox(key=1)).permutation(candidates)
    by_class = [order[labels[order] == label][: IMAGES_PER_CLASS[split]] for label in range(len(CLASS_NAMES))]
    return np.stack(by_class, axis=1).reshape(-1)


def as_table(images: NDArray[np.uint8], labels: NDArray[np.int64], ids: NDArray[np.int64], *, split: str) -> pa.Table:
    """One row an image; its path holds its number in the original set."""
    rows = [{"bytes": encode_png(images[number]), "path": f"{split}/{number:08}.png"} for number in ids]
    return pa.table({"image": rows, "label": labels[ids]}, schema=SCHEMA)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
