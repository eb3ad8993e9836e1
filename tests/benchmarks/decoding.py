"""What photographs cost before a model sees them: whole and scaled JPEGs, and images that were kept on disk."""

import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import simplejpeg
import torch
from PIL import Image
from torchvision.transforms.v2 import RandomResizedCrop

from softlab.bench.timing import rates
from softlab.identity import digest_of
from softlab.loading.kept_images import KeptImages
from softlab.modalities.images.decoding import ImageDecoding
from softlab.modalities.images.example import pixels_of
from softlab.modalities.images.jpeg_header import read_header
from softlab.modalities.images.modality import Images
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.views import record_views
from softlab.store.cache import CacheOptions
from tests.benchmarks.report import Report
from tests.benchmarks.threads import one_thread
from tests.modalities.images.photos import photo

SIZES = {"500 x 375": (500, 375, 2.0), "2,000 x 1,500": (2000, 1500, 4.0)}
"""Width, height, and how many times as fast a scaled view is to be."""

SUBSAMPLINGS = {"4:2:0": 2, "4:4:4": 0}
WHOLE, SCALED = Images(), Images(ImageDecoding(jpeg="scaled"))
CROP = record_views(ViewRecipe(transforms=("RandomResizedCrop(224)",)), num_views=1000, digest_every=0)
SHRINK = 256
VIEWS = 8
"""Of one turn."""


def bench_decoding(report: Report, folder: Path, *, rounds: int, views: int = VIEWS) -> None:
    """Files lie in memory: no disk is measured but that of what was kept."""
    photographs, whose = _photographs()
    rows, kept = [], []
    for size, (width, height, bar) in SIZES.items():
        for sampling, subsampling in SUBSAMPLINGS.items():
            files = [_jpeg(each, width, height, subsampling=subsampling) for each in photographs]
            what = f"{size}, {sampling}"
            with one_thread():
                rows.append([what, *_compare_views(report, what, files, rounds=rounds, views=views, bar=bar)])
                kept.append([what, *_compare_kept(report, folder / what, what, files, rounds=rounds)])
    text = (
        "Milliseconds of a processor for a view by RandomResizedCrop(224), decoded and cropped; and for no more than "
        "reading the codes of its lines and those above, grey and an eighth as wide and high, which no decoder gets "
        f"around. {whose}"
    )
    headers = ["JPEGs", "whole", "scaled", "times as fast", "codes alone"]
    report.section("Decoding photographs", text, headers, rows)
    text = f"Milliseconds of a processor for an image shrunk to {SHRINK}: scaled while it is decoded, or kept. {whose}"
    report.section("Kept images", text, ["JPEGs", "decoded", "kept", "times as fast"], kept)


def _photographs() -> tuple[list[Image.Image], str]:
    """scikit-learn's two where it is installed, else made ones; and whose they are."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        return [photo(640, 427, seed=seed) for seed in range(2)], "Made pictures, as scikit-learn isn't installed."
    return [Image.fromarray(each) for each in load_sample_images().images], "scikit-learn's photographs."


def _jpeg(image: Image.Image, width: int, height: int, *, subsampling: int) -> bytes:
    """Of quality 90."""
    file = BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90, subsampling=subsampling)
    return file.getvalue()


def _compare_views(
    report: Report, what: str, files: list[bytes], *, rounds: int, views: int, bar: float
) -> tuple[str, ...]:
    ways = {
        "whole": _viewing(WHOLE, files, views),
        "scaled": _viewing(SCALED, files, views),
        "codes": _reading_codes(files, views),
    }
    found = rates(ways, rounds=4 * rounds, clock=time.process_time)
    ratio = found["scaled"] / found["whole"]
    report.bar(f"views of scaled JPEGs against whole ones: {what}", ratio, at_least=bar)
    return *_cells(found["whole"], found["scaled"]), f"{1e3 / found['codes']:.2f}"


def _viewing(modality: Images, files: list[bytes], views: int) -> Callable[[], int]:
    """Each turn makes other views than the last, and both ways the same."""
    replay = modality.replay(CROP, num_samples=len(files))
    turns = iter(range(1000))

    def make() -> int:
        view = next(turns)
        samples = [number % len(files) for number in range(views)]
        numbers = [(view * views + number) % 1000 for number in range(views)]
        return len(replay.views(samples, numbers, lambda index: modality.decode(files[index])))

    return make


def _reading_codes(files: list[bytes], views: int) -> Callable[[], int]:
    """Of boxes that are drawn likewise, other ones each turn."""
    crop = RandomResizedCrop(224)
    headers = [header for file in files if (header := read_header(file)) is not None]
    sizes_CHW = [torch.empty((3, header.height, header.width), device="meta") for header in headers]
    turns = iter(range(1000))

    def read() -> int:
        first = next(turns) * views
        for number in range(first, first + views):
            header, file = headers[number % len(files)], files[number % len(files)]
            box = crop.make_params([sizes_CHW[number % len(files)]])
            lines = header.lines_up_to(box["top"] + box["height"])
            size = {"min_height": -(-lines // 8), "min_width": -(-header.width // 8)}
            simplejpeg.decode_jpeg(header.with_lines(file, lines), "GRAY", strict=False, **size)
        return views

    return read


def _compare_kept(report: Report, folder: Path, what: str, files: list[bytes], *, rounds: int) -> tuple[str, str, str]:
    modality = Images(ImageDecoding(jpeg="scaled", shrink=SHRINK))
    images = KeptImages(CacheOptions(dir=folder, images_gib=0.1), modality.kept_as)
    hashes = [digest_of(data).encode() for data in files]
    images.keep({key: pixels_of(modality.decode(data)) for key, data in zip(hashes, files, strict=True)})
    decode, read = partial(_all, modality.decode, files), partial(_all, images.get, hashes)
    found = rates({"decoded": decode, "kept": read}, rounds=4 * rounds, clock=time.process_time)
    report.bar(f"kept images against decoding them: {what}", found["kept"] / found["decoded"], at_least=4)
    return _cells(found["decoded"], found["kept"])


def _all(make: Callable[[bytes], object], values: list[bytes]) -> int:
    return len([make(value) for value in values * 4])


def _cells(slow: float, fast: float) -> tuple[str, str, str]:
    return f"{1e3 / slow:.2f}", f"{1e3 / fast:.2f}", f"{fast / slow:.2f}"
