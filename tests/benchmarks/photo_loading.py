"""From files of photographs to batches, and to a student's gradient: softlab beside other libraries' loaders.

    python -m tests.benchmarks.photo_loading --count 2000 --rounds 5

The peers that a Python environment holds take part. These are not in softlab's own, so make another one:

    pip install webdataset nvidia-dali-cuda130
    pip install ffcv            # is compiled, against OpenCV and libturbojpeg

`--checkout` names what comes in no package; `peers/photo_published.py` tells which. `--originals` names a folder of
other photographs to make the set of.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions, build_model
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.peers.photo_libraries import LIBRARIES
from tests.benchmarks.peers.photo_loader import ALL, AUGMENTATIONS, SCALED, PhotoLoader, PhotoSet
from tests.benchmarks.peers.photo_own import HARD, OWN, STORED, STORED_OF_4
from tests.benchmarks.peers.photo_published import PUBLISHED
from tests.benchmarks.photo_turns import BATCH, GRADIENT, Loading, Rates
from tests.benchmarks.photographs import write_photographs
from tests.benchmarks.report import Report

PEERS = [*LIBRARIES, *PUBLISHED]
FIRST_PEER = LIBRARIES[0]
NUM_VIEWS = 4
BATCH_SIZE, FEW_PHOTOGRAPHS = 64, 64
HEADERS = [
    "loader",
    "how",
    "labels",
    "augmentation",
    "to batches",
    "relative",
    "to gradients",
    "relative",
    "s to the first batch",
    "MB",
    "kB read a sample",
]

Found = dict[str, list[Rates]]
"""The turns of one loader, by their kind."""


def bench_photographs(
    report: Report,
    folder: Path,
    *,
    rounds: int,
    count: int = 2000,
    originals: Sequence[Path] = (),
    checkouts: Mapping[str, Path] | None = None,
) -> None:
    """Batches of 64 of `count` photographs, of `originals` or scikit-learn's; of few photographs smaller batches, and
    fewer lines."""
    photos = prepare(folder / "photo-loading", count=count, originals=originals, checkouts=checkouts or {})
    rows = [*(OWN if count > FEW_PHOTOGRAPHS else (HARD, STORED, STORED_OF_4)), *PEERS]
    loading = {row: start(row, photos) for row in rows}
    begun = {row: each for row, each in loading.items() if isinstance(each, Loading)}
    found = take_turns(begun, rounds=rounds, batches=1 if count <= FEW_PHOTOGRAPHS else 2)
    rates = {row: {kind: _rate(turns) for kind, turns in by_kind.items()} for row, by_kind in found.items()}
    stored, hard, peer, of_4 = (rates[row] for row in (STORED, HARD, FIRST_PEER, STORED_OF_4))
    for kind, what in ((BATCH, "batches"), (GRADIENT, "gradients")):
        report.bar(f"photographs to {what}, stored labels against hard ones", stored[kind] / hard[kind], at_least=0.97)
        report.bar(f"photographs to {what}, hard labels against torchvision", hard[kind] / peer[kind], at_least=1)
    report.bar(
        "photographs to batches, 4 stored views of an image against hard labels",
        of_4[BATCH] / hard[BATCH],
        at_least=1.5,
    )
    report.section(
        "Photographs",
        f"{count:,} JPEGs of about 500 x 375 to float32 batches of {photos.batch_size} of 224 x 224, and to the "
        "gradient of shufflenet_v2_x0_5 on 56 x 56; samples a second of processor time, all threads of one process, no "
        f"workers, medians of {rounds} rounds in turns, and relative to torchvision's first line. Crop, flip: without "
        "RandAugment, which FFCV doesn't have and FKD's labels don't describe. Seconds are processor time too, MB the "
        "peak of memory, both beyond importing; read by calls of the system, so without files that are mapped.",
        HEADERS,
        [_line(row, loading[row], rates.get(row, {}), rates[FIRST_PEER]) for row in rows],
    )


def prepare(folder: Path, *, count: int, originals: Sequence[Path], checkouts: Mapping[str, Path]) -> PhotoSet:
    """The photographs, and a store of a random teacher's labels for each augmentation."""
    (folder / "scratch").mkdir(parents=True)
    photographs = write_photographs(folder / "photographs", count=count, originals=originals)
    source = open_source(photographs)
    num_classes = len(source.class_names or ())
    arguments: dict[str, object] = {"num_classes": num_classes}
    module = build_model(ModelOptions(model="softlab:grey_cnn", arguments=arguments)).eval()
    stores = {name: folder / f"store-{place}" for place, name in enumerate((*AUGMENTATIONS, SCALED))}
    for name, store in stores.items():
        input = ImageInput(size=(28, 28), channels=1, jpeg="scaled" if name == SCALED else None)
        teacher = Teacher(module=module, name="softlab:grey_cnn", arguments=arguments, input=input)
        recipe = ViewRecipe(transforms=AUGMENTATIONS.get(name, AUGMENTATIONS[ALL]))
        dump_teacher(teacher, source, store, DumpOptions(k=5, views=NUM_VIEWS), augment=recipe)
    return PhotoSet(
        folder=photographs,
        stores=stores,
        scratch=folder / "scratch",
        batch_size=BATCH_SIZE if count > FEW_PHOTOGRAPHS else BATCH_SIZE // 4,
        num_classes=num_classes,
        checkouts=checkouts,
    )


def start(loader: PhotoLoader, photos: PhotoSet) -> Loading | str:
    """A loader in its process, or why there is none."""
    try:
        loader.prepare(photos)
        return Loading(loader, photos)
    except ImportError as error:
        return f"not installed ({error})"


def take_turns(begun: Mapping[PhotoLoader, Loading], *, rounds: int, batches: int) -> dict[PhotoLoader, Found]:
    """One after the other, so that a machine whose speed drifts slows all alike; a first round warms up."""
    found: dict[PhotoLoader, Found] = {row: {BATCH: [], GRADIENT: []} for row in begun}
    for round_index in range(rounds + 1):
        for kind in (BATCH, GRADIENT):
            for row, each in begun.items():
                rates = each.turn(kind, batches=batches)
                if round_index > 0:
                    found[row][kind].append(rates)
    return found


def _rate(turns: Sequence[Rates]) -> float:
    return statistics.median(turn.samples / turn.cpu_s for turn in turns)


def _line(row: PhotoLoader, loading: Loading | str, rates: Mapping[str, float], peer: Mapping[str, float]) -> list[str]:
    named = [f"{row.name} {_version(row)}".strip(), row.how if isinstance(loading, Loading) else loading]
    cells = [*named, row.labels, row.augmentation]
    if isinstance(loading, str):
        return [*cells, *[""] * (len(HEADERS) - len(cells))]
    for kind in (BATCH, GRADIENT):
        cells += [f"{rates[kind]:,.0f}", f"{rates[kind] / peer[kind]:.2f}"]
    totals = loading.end()
    return [
        *cells,
        f"{loading.start.cpu_s:.2f}",
        f"{totals.memory_bytes / 1e6:,.0f}",
        f"{totals.bytes_a_sample / 1e3:,.1f}",
    ]


def _version(row: PhotoLoader) -> str:
    with suppress(PackageNotFoundError):
        return version(row.package) if row.package else ""
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--originals", type=Path, help="folder of JPEGs; default: scikit-learn's two")
    parser.add_argument("--checkout", action="append", default=[], metavar="NAME=FOLDER")
    options = parser.parse_args()
    originals = sorted(options.originals.glob("*.jpg")) if options.originals else ()
    checkouts = {name: Path(path) for name, path in (given.split("=", 1) for given in options.checkout)}
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        bench_photographs(
            report, Path(name), rounds=options.rounds, count=options.count, originals=originals, checkouts=checkouts
        )
    report.bars()


if __name__ == "__main__":
    main()
