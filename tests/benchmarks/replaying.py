"""What views cost: replaying them against drawing anew, a training step on stored views, and their bytes."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from softlab.bench.timing import rates
from softlab.labels.coding import Coding
from softlab.labels.losses import KlLoss
from softlab.loading.aligned import AS_THEY_ARE, Aligned, beside_store
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.images.views.transforms import build_transform, parse_transform
from softlab.modalities.views import record_views
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions, choose_device
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.learner import Learner
from softlab.student.objective import HARD_TARGETS, Objective
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import TeachersOptions
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report
from tests.sources.pictures import image_of

INPUT = ImageInput(mean=(0.286,), std=(0.353,))
RECIPES = {
    "crop, flip": ("RandomCrop(28, padding=2)", "RandomHorizontalFlip()"),
    "resized crop, RandAugment, erasing": ("RandomResizedCrop(28)", "RandAugment()", "RandomErasing()"),
}
IMAGES = 1000
STEPS, TURNS = 50, 20
NUM_VIEWS = 4


def bench_replaying(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """Small images, where seeding weighs most."""
    rows = []
    for title, transforms in RECIPES.items():
        found = rates(
            {"drawn": _drawing(source, transforms), "replayed": _replaying(source, transforms)},
            rounds=TURNS * rounds,  # of one batch each
        )
        report.bar(f"replaying views against drawing them: {title}", found["replayed"] / found["drawn"], at_least=0.95)
        micros = [f"{1e6 / found[name]:.0f}" for name in ("drawn", "replayed")]
        rows.append([title, *micros, f"{found['replayed'] / found['drawn']:.3f}"])
    report.section(
        "Replay",
        f"Decoding an image of {source.name} and its transforms, in microseconds, one process: drawn from torch's own "
        "random state, and replayed as a pure function of seed, view and sample.",
        ["transforms", "drawn", "replayed", "rate, replayed against drawn"],
        rows,
    )
    _bench_training(report, folder, source, rounds=rounds)


def _drawing(source: Source, transforms: tuple[str, ...]) -> Callable[[], int]:
    built, batches = [build_transform(parse_transform(text)) for text in transforms], cycle(_batches(source))

    def draw(number: int) -> Tensor:
        image_CHW = image_of(source, number)
        for transform in built:
            image_CHW = transform(image_CHW)
        return image_CHW

    return lambda: len([draw(number) for number in next(batches)])


def _replaying(source: Source, transforms: tuple[str, ...]) -> Callable[[], int]:
    views = record_views(ViewRecipe(transforms=transforms), num_views=1, digest_every=0)
    replay, batches = ImageReplay(views, num_samples=len(source)), cycle(_batches(source))

    def read(number: int) -> Tensor:
        return image_of(source, number)

    return lambda: len(replay.views(numbers := next(batches), [0] * len(numbers), read))


def _batches(source: Source) -> list[list[int]]:
    count = min(IMAGES, len(source))
    return [list(range(start, min(start + 128, count))) for start in range(0, count, 128)]


def _bench_training(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    stores = {coding: _dump(folder / f"views-{coding}", source, coding) for coding in ("float16", "uint8")}
    store = stores["float16"]
    stored = beside_store(source, store, (INPUT,), subset=False, verify="some")
    hard = Aligned(source=source, inputs=(INPUT,), replay=stored.replay)
    plain = Aligned(source=source, inputs=(INPUT,), replay=AS_THEY_ARE)
    found = rates(
        {
            "hard": _Steps(hard, HARD_TARGETS),
            "stored": _Steps(stored, Objective(teachers=TeachersOptions(alpha=0.9), loss=KlLoss(temperature=4.0))),
            "plain": _Steps(plain, HARD_TARGETS),
        },
        rounds=rounds,
    )
    report.ratio("training on replayed views and stored labels against hard ones", found["stored"] / found["hard"])
    bytes_per_view = [
        f"{coding}: {sum(file.bytes for file in each.manifest.files) / each.manifest.statistics['logits'].rows:.1f} B"
        for coding, each in stores.items()
    ]
    report.section(
        "Views in training",
        f"The demo's CNN student, batches of 128, {NUM_VIEWS} stored views (crop, flip), K = 5 of 10 with tails at two "
        "temperatures; samples per second relative to plain hard labels with the same augmentation. A view with "
        f"everything in its store, samples.parquet and pixel digests included: {', '.join(bytes_per_view)}.",
        ["inputs", "relative rate"],
        [
            ["hard labels, same augmentation", "1.000"],
            ["stored labels, replayed views", f"{found['stored'] / found['hard']:.3f}"],
            ["hard labels, no augmentation", f"{found['plain'] / found['hard']:.3f}"],
        ],
    )


def _dump(out: Path, source: Source, coding: Coding) -> Store:
    module = build_model(ModelOptions(model="softlab:grey_cnn"))
    teacher = Teacher(module=module, name="softlab:grey_cnn", arguments={}, input=INPUT)
    options = DumpOptions(k=5, temperature=(1.0, 4.0), views=NUM_VIEWS, coding=coding)
    dump_teacher(teacher, source, out, options, augment=ViewRecipe(transforms=RECIPES["crop, flip"]))
    return open_store(out, cache=CacheOptions(dir=out.with_suffix(".cache")))


class _Steps:
    """Some training steps whenever it is called; decoded images are kept between calls."""

    def __init__(self, aligned: Aligned, objective: Objective) -> None:
        self._device = choose_device("auto")
        self._loader = BatchLoader(aligned, device=self._device, options=LoaderOptions(workers=0), keep_decoded=True)
        torch.manual_seed(0)
        student = build_model(ModelOptions(model="softlab:grey_cnn"))
        self._learner = Learner(
            "student",
            student,
            objective,
            optimizer=OptimizerOptions(),
            device=self._device,
            place_on=DeviceOptions(),
            num_steps=STEPS,
            steps_per_epoch=STEPS,
            seed=0,
        )

    def __call__(self) -> int:
        num_samples = len(self._loader.aligned.source)
        order = ShuffledBatches(num_samples=num_samples, batch_size=128, epochs=50, seed=0, num_views=NUM_VIEWS)
        for step, batch in enumerate(self._loader.load(list(order)[:STEPS])):
            self._learner.step(batch.to(self._device), step=step)
        self._learner.take_mean_loss(step=STEPS)
        return STEPS * 128
