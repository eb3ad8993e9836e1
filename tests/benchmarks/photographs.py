"""A set of photographs to measure on: 2,000 JPEGs of about 500 x 375 in class folders, the same from the same seed.

    python -m tests.benchmarks.photographs FOLDER
    python -m tests.benchmarks.photographs FOLDER --originals usr/share/backgrounds/mate/nature

Each is a random part of one of scikit-learn's two sample photographs, or of the JPEGs of a folder. The twelve above are
of Debian's package mate-backgrounds (GPL-2+), from which they come without root:

    apt-get download mate-backgrounds
    dpkg-deb -x mate-backgrounds_*.deb .
"""

import argparse
import random
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

from PIL import Image, ImageOps

NAMES = ("china.jpg", "flower.jpg")
PARTS = 5
"""Classes of one photograph: from how far left its part is."""

WIDTHS, ASPECTS = (450, 550), (1.2, 1.45)
LEAST_SHARE = 0.75
"""Of a photograph's height: less would be enlarged much, and have fewer bytes than a photograph of its size."""

QUALITIES = (85, 95)


def sample_photographs() -> list[Path]:
    """Those of scikit-learn, which isn't imported for it."""
    sklearn = distribution("scikit-learn")
    return [Path(str(sklearn.locate_file(f"sklearn/datasets/images/{name}"))) for name in NAMES]


def write_photographs(folder: Path, *, count: int = 2000, seed: int = 0, originals: Sequence[Path] = ()) -> Path:
    """`count` JPEGs as FOLDER/CLASS/NUMBER.jpg, 4:2:0; a class is a part of a photograph."""
    originals = originals or sample_photographs()
    rng, whole = random.Random(seed), {path: Image.open(path).convert("RGB") for path in originals}
    for index in range(count):
        path, part = originals[index % len(originals)], index // len(originals) % PARTS
        file = folder / f"{path.stem.lower()}-{part}" / f"{index:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        _cut_out(whole[path], rng, part=part).save(file, quality=rng.randint(*QUALITIES), subsampling="4:2:0")
    return folder


def _cut_out(image: Image.Image, rng: random.Random, *, part: int) -> Image.Image:
    """A part of an image, shrunken or a little enlarged to a width of about 500; every second one is mirrored."""
    width, aspect = rng.randint(*WIDTHS), rng.uniform(*ASPECTS)
    cut_height = rng.uniform(LEAST_SHARE, 1) * min(image.height, image.width / aspect)
    cut_width = cut_height * aspect
    left = (image.width - cut_width) * (part + rng.random()) / PARTS
    top = (image.height - cut_height) * rng.random()
    box = (left, top, left + cut_width, top + cut_height)
    cut = image.resize((width, round(width / aspect)), Image.Resampling.LANCZOS, box=box)
    return ImageOps.mirror(cut) if rng.random() < 0.5 else cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--originals", type=Path, help="folder of JPEGs; default: scikit-learn's")
    options = parser.parse_args()
    originals = sorted(options.originals.glob("*.jpg")) if options.originals else ()
    write_photographs(options.folder, count=options.count, seed=options.seed, originals=originals)


if __name__ == "__main__":
    main()
